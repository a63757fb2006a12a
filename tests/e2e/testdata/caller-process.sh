set -eu
$RUN -u 1000 -w /tmp -e A=b --hostname hh --ulimit nofile=1000 --shm-size 32m --sysctl net.core.somaxconn=99 \
	busybox:test sh -c '
	shm=$(df -m /dev/shm | tail -1 | tr -s " " | cut -d" " -f2)
	echo $(id -u) $(pwd) $A $(hostname) $(ulimit -n) $(cat /proc/sys/net/core/somaxconn) $shm
'
