set -eu
run() { podman --log-level=error run --pids-limit 0 --rm "$@"; }
run busybox:test true 2>/dev/null || podman load -q -i /opt/busybox.tar
run --network none busybox:test sh -c 'mkdir /q && rmdir /q && rm -r /etc/group && id -u'
