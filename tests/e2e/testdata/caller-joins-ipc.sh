set -eu
docker run -d --rm --name one --ipc shareable --runtime $R busybox:test sleep 100 >/dev/null
trap 'docker rm -f one >/dev/null' EXIT
docker exec one touch /dev/mqueue/of-one
$RUN --ipc container:one busybox:test ls /dev/mqueue
