set -eu
mount -t ext4 /dev/disk /mnt
cp /usr/bin/id /mnt/
chmod 4755 /mnt/id
setpriv --reuid 7 --clear-groups /mnt/id -u
umount /mnt
mount -o nosuid /dev/disk /mnt
setpriv --reuid 7 --clear-groups /mnt/id -u
umount /mnt
