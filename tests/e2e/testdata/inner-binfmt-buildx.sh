set -eu
mkdir -p /root/arm
cd /root/arm
cp /opt/hello-arm64 .
cat >Dockerfile <<'EOF'
FROM scratch
ADD hello-arm64 /hello
RUN ["/hello"]
EOF
docker buildx build -q --platform linux/arm64 -t arm . >/dev/null
docker run --rm --platform linux/arm64 arm /hello
