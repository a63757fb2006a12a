set -eu
is() {
	echo "$1 $2"
	dpkg --compare-versions "$2" ge "$3" || { echo "older than $3"; exit 1; }
}
is Docker "$(docker version --format '{{.Server.Version}}')" 26
is runc "$(runc --version | sed -n 's/^runc version //p')" 1.3.3
is 'the newest runc' "$(/opt/newest/runc/runc --version | sed -n 's/^runc version //p')" 1.5
is crun "$(crun --version | sed -n 's/^crun version //p')" 1.28
is podman "$(podman --version | cut -d' ' -f3)" 5
is containerd "$(containerd --version | cut -d' ' -f3)" 1.7
is systemd "$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')" 257
is buildx "$(docker buildx version | cut -d' ' -f2)" 0.10
is QEMU "$(qemu-aarch64 --version | sed -n 's/.*version \([0-9.]*\).*/\1/p')" 7
echo new enough
