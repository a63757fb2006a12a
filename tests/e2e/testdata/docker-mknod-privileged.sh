set -eu
docker run --rm --privileged busybox:test sh -euc '
	mkdir /d
	mknod /d/tun c 10 200
	mknod /d/fuse c 10 229
	: </d/tun
	: </d/fuse
	echo both open
'
