set -eu
docker network create n1 >/dev/null
trap 'docker rm -f srv >/dev/null; docker network rm n1 >/dev/null' EXIT
docker run -d --rm --name srv --network n1 busybox:test \
	sh -c 'while :; do echo pong | nc -l -p 5000; done' >/dev/null
for i in 1 2 3 4 5 6 7 8 9; do
	docker run --rm --network n1 busybox:test nc -w 3 srv 5000 && break
	sleep 1
done
