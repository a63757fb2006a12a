set -eu
echo '/disks/one /data ext4 defaults 0 0' >/etc/fstab
mkdir -p /data
systemctl daemon-reload
systemctl start data.mount
head -n 1 /data/file
systemctl stop data.mount
if mountpoint -q /data; then
	exit 1
fi
rm /etc/fstab
echo stopped
