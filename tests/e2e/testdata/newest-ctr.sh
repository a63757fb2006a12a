set -eu
ctr -a $C image import /opt/busybox.tar >/dev/null
ctr -a $C run -d --cpu-shares 0 docker.io/library/busybox:test r1 sleep 100
ctr -a $C task exec --exec-id x r1 id -u
ctr -a $C task kill -s KILL r1
sleep 1
ctr -a $C task rm r1 2>/dev/null || true # it may tell the status of the process
ctr -a $C container rm r1
ctr -a $C container ls -q | wc -l
