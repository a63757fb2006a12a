set -eu
cd /root/empty
cat >Containerfile <<'EOF'
FROM busybox:test
RUN rm -r /etc/group && mkdir /y
RUN rmdir /y && echo built >/f
EOF
podman build --network none -q -t pb -f Containerfile . >/dev/null
podman --log-level=error run --pids-limit 0 --rm --network none pb cat /f
