set -eu
debootstrap --variant=minbase --unpack-tarball=/opt/debs.tgz trixie /root/deb >/root/deb.log 2>&1 ||
	tail -5 /root/deb.log
stat -c '%F %t,%T' /root/deb/dev/null
chroot /root/deb dpkg -l apt | grep -o ^ii
