set -eu
rm -rf /root/n
mkdir /root/n
mknod /root/n/tun c 10 200
mount --bind /root/n/tun /dev/net/tun
ip tuntap add t0 mode tap
ip -br link show t0 | grep -o ^t0
umount /dev/net/tun
ip link del t0
