set -eu
total() { docker exec mm free | awk '/^Mem/ {print substr($2, 1, 5)}'; }
docker run -d --rm --name mm -m 64m --memory-swap 64m --cpus 1 --runtime $R busybox:test sleep 100 >/dev/null
trap 'docker rm -f mm >/dev/null' EXIT
total
docker update -m 96m --memory-swap 96m mm >/dev/null
total
