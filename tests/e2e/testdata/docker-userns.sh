set -eu
docker run --rm -u 1000 --security-opt seccomp=unconfined --security-opt systempaths=unconfined \
	busybox:test unshare -Urpf --mount-proc id -u
