set -eu
rm -f /root/fuse
mknod /root/fuse c 10 229
mount --bind /root/fuse /dev/fuse
cd /root
mkdir -p o/l o/u o/w o/m
echo x >o/l/f
fuse-overlayfs -o lowerdir=/root/o/l,upperdir=/root/o/u,workdir=/root/o/w /root/o/m
cat o/m/f
umount o/m
umount /dev/fuse
