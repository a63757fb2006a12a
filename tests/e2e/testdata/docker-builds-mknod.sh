set -eu
mkdir -p /srv/made
cd /srv/made
cat >Dockerfile <<'EOF'
FROM busybox:test
RUN mkdir -p /deb/dev && mknod /deb/dev/null c 1 3 && echo x >/deb/dev/null && cp /bin/busybox /deb/ && \
	chroot /deb /busybox sh -c "echo x >/dev/null && echo chrooted"
EOF
docker build --no-cache --progress plain . 2>&1 | grep -o 'chrooted$'
