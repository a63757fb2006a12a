set -eu
mount -t ext4 /dev/disk /mnt
cd /mnt
ln -sf file link
ln -f file hard
truncate -s 1G hole
stat -c '%h %s' hard hole
touch $(printf '%0255d' 1)
head -n 1 link
cd /
umount /mnt
