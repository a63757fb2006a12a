set -eu
mkfs.ext4 -q /dev/disk
mount -t ext4 /dev/disk /mnt
echo kept >/mnt/file
findmnt -no SOURCE,FSTYPE /mnt
umount /mnt
