set -eu
as() { setpriv --reuid $1 --regid $2 --clear-groups "$3" "$4"; }
mount -t ext4 /dev/disk /mnt
cd /mnt
mkdir -p d
chown 1000:2000 d
chmod 770 d
as 1000 1000 touch d/own
as 7 2000 touch d/of-group
if as 7 7 ls d; then
	exit 1
fi
stat -c '%n %u:%g' d/*
cd /
umount /mnt
