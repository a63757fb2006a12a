set -eu
docker diff cc | grep -E '^. /(in|etc/group)$' | sort
docker commit cc committed >/dev/null
docker rm -f cc >/dev/null
$RUN committed cat /in
