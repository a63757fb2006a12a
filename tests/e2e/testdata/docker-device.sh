set -eu
docker run --rm --device /dev/net/tun --cap-add NET_ADMIN busybox:test \
	sh -c 'ls /dev/net/tun && : </dev/net/tun && echo opens'
