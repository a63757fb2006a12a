set -eu
cat >/run/systemd/system/disk.service <<'EOF'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=mount -t ext4 /dev/disk /mnt
ExecStop=umount /mnt
EOF
systemctl daemon-reload
systemctl start disk
head -n 1 /mnt/file
systemctl stop disk
if mountpoint -q /mnt; then
	exit 1
fi
echo stopped
