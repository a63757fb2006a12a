set -eu
mkdir -p $D/bind
$RUN -v $D/bind:/b -v vol:/v busybox:test sh -c 'echo v >/v/f; echo b >/b/f; stat -c %u /v /b'
$RUN -v vol:/v:ro busybox:test sh -c 'cat /v/f; touch /v/g' 2>&1 | grep -v 'touch: /v/g: Read-only'
stat -c %u $D/bind/f
docker volume rm vol >/dev/null
