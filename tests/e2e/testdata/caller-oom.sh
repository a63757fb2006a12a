set -eu
docker run --name oo -m 32m --memory-swap 32m --runtime $R busybox:test tail /dev/zero || true # it is killed
docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' oo
docker rm oo >/dev/null
