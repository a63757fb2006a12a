set -eu
podman --log-level=error run --pids-limit 0 --rm --network none -u 1000 \
	--security-opt seccomp=unconfined --security-opt unmask=ALL \
	busybox:test unshare -Urpf --mount-proc id -u
