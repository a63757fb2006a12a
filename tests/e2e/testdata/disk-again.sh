set -eu
for i in 1 2 3 4 5; do
	mount -t ext4 /dev/disk /mnt
	cat /mnt/file
	echo $i >>/mnt/file
	umount /mnt
done | wc -l
