set -eu
docker restart -t 1 aa >/dev/null
docker top aa | grep -c trap
docker stats --no-stream --format '{{.PIDs}}' aa | grep -c '[1-9]'
docker rm -f aa >/dev/null
docker ps -aq
