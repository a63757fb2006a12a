set -eu
mkdir -p $D/b
cat >$D/b/Dockerfile <<'EOF'
FROM busybox:test
RUN rm -r /etc/group && awk "{exit \$2 < 65536}" /proc/self/uid_map && echo shifted >/made
EOF
DOCKER_BUILDKIT=0 docker build -q -t built $D/b >/dev/null
docker run --rm built sh -c 'cat /made; stat -c %u /made; ls /etc/group 2>&1'
