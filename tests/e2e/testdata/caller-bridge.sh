set -eu
$RUN busybox:test sh -c \
	'ip addr show eth0 | grep -o 172.17.0 && ping -c1 -W5 172.17.0.1 | grep -o "1 packets received"'
