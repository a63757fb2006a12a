set -eu
mount -t ext3 /dev/disk /mnt
setpriv --reuid 7 --regid 7 --groups 2000 touch /mnt/d/further
if setpriv --reuid 7 --regid 7 --clear-groups ls /mnt/d; then
	exit 1
fi
stat -c %u:%g /mnt/d/further
umount /mnt
