set -eu
cd /run
mkdir -p l/sub u w m
mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m
rmdir m/sub
ls m
umount m
echo removed
