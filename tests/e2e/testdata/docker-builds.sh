set -eu
mkdir -p /srv/built
cd /srv/built
cat >Dockerfile <<'EOF'
FROM busybox:test
RUN echo built >/f && rm -r /etc/group && mkdir /y
RUN rmdir /y
CMD cat /f
EOF
docker build -q -t built . >/dev/null
docker run --rm built
