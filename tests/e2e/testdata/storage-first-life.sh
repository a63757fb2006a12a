set -eu
docker load -q -i /opt/busybox.tar
mkdir /b
cd /b
cat >Dockerfile <<'EOF'
FROM busybox:test
RUN mkdir /d && echo 1 >/d/a && echo 1 >/gone
RUN rm -r /gone /d && mkdir /d && echo 2 >/d/b
EOF
docker build -q -t one . >/dev/null
echo built
