set -eu
docker run --rm busybox:test sh -euc '
	umask 022
	mknod /tmp/n c 1 3
	echo x >/tmp/n
	stat -c %F,%t,%T,%a /tmp/n
	mkdir /d
	mknod /d/zero c 1 5
	head -c 3 /d/zero | wc -c
	mount | grep -c /d/zero
'
