set -eu
cp /opt/busybox.tar /tmp/b.tar
chmod 644 /tmp/b.tar
su - u1 -c "
	podman load -q -i /tmp/b.tar >/dev/null 2>&1
	podman --log-level=error run --pids-limit 0 --rm busybox:test \\
		sh -c 'mkdir /q && rmdir /q && rm -r /etc/group && cat /proc/self/uid_map | wc -l'
" 2>/dev/null
