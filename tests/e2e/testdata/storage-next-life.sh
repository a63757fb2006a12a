set -eu
mkdir -p /b
cd /b
cat >Dockerfile <<'EOF'
FROM one
RUN rm /d/b && echo 3 >/d/c
EOF
docker build -q -t two . >/dev/null
docker run --rm two ls -A /d
