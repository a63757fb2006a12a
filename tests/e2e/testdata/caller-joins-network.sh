set -eu
docker run -d --rm --name one --runtime $R busybox:test sleep 100 >/dev/null
trap 'docker rm -f one >/dev/null' EXIT
$RUN --net container:one busybox:test sh -c 'ip addr show eth0 | grep -o 172.17.0'
