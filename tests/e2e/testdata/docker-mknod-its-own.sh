set -eu
docker run -d --rm --name nodes -v /opt:/opt busybox:test \
	sh -c 'mknod /dev/shm/n c 1 3; sleep 100' >/dev/null
docker run --rm busybox:test ls /dev/shm
docker rm -f nodes >/dev/null
grep -c /dev/shm/n /proc/mounts
