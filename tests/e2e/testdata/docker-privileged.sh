set -eu
docker run --rm --privileged busybox:test sh -euc '
	mount -t tmpfs x /tmp
	mkdir /tmp/d
	mount --bind /dev /tmp/d
	ls /tmp/d/null
	unshare -Urpf --mount-proc id -u
'
