set -eu
mount -o ro,noexec,noatime /dev/disk /mnt
findmnt -no OPTIONS /mnt | grep -oE '^ro|nosuid|nodev|noexec|noatime'
if touch /mnt/x; then
	exit 1
fi
umount /mnt
