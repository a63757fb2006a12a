set -eu
docker run -d --name aa --runtime $R busybox:test \
	sh -c 'trap "echo bye; exit 7" TERM; echo hello; while :; do sleep 0.1; done' >/dev/null
docker exec aa sh -c 'echo x >/f'
docker pause aa >/dev/null
docker inspect -f '{{.State.Status}}' aa
docker unpause aa >/dev/null
docker stop aa >/dev/null
docker inspect -f '{{.State.ExitCode}} {{.State.Status}}' aa
docker start aa >/dev/null
docker exec aa cat /f
docker kill aa >/dev/null
docker logs aa
