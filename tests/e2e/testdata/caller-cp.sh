set -eu
docker run -d --name cc --runtime $R busybox:test sleep 1000 >/dev/null
docker exec cc sh -c 'echo out >/out && chown 5:6 /out'
docker cp -q cc:/out $D/out
cat $D/out
docker cp -q $D/out cc:/in
docker exec cc sh -c 'stat -c %u:%g /in /out'
docker exec cc rm /etc/group
