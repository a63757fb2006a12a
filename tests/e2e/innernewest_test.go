package e2e

import (
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/peers"
)

// row is a script that runs in a system container: what it must print at its end, and its
// exit status.
type row struct {
	name, script string
	status       uint32
	want         string
}

// newestPrograms are binds of the newest programs, which no distribution has yet.
func newestPrograms(t *testing.T) oci.SpecOpts {
	t.Helper()
	var mounts []specs.Mount
	for name, build := range map[string]func() (string, error){
		"containerd": func() (string, error) { return peers.Containerd(peers.Newest) },
		"docker":     peers.Docker,
		"runc":       peers.Runc,
		"client":     func() (string, error) { return peers.Program(client) },
	} {
		dir, err := build()
		if err == nil {
			dir, err = filepath.EvalSymlinks(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts, specs.Mount{Destination: "/opt/newest/" + name, Type: "bind", Source: dir, Options: []string{"rbind", "ro"}})
	}
	return oci.WithMounts(mounts)
}

// client is a program of ours that uses containerd.
const client = "tests/e2e/testdata/client/client.go"

// newest is a prefix for scripts that use the newest programs.
const newest = "PATH=/opt/newest/docker:/opt/newest/containerd:/opt/newest/runc:/opt/newest/client:$PATH; C=/run/newest/c.sock; "

// of are rows for one of several programs.
func of(name, prefix string, rows []row) []row {
	out := make([]row, len(rows))
	for i, r := range rows {
		r.name, r.script = name+r.name, prefix+r.script
		out[i] = r
	}
	return out
}

// The busybox image has /tmp and no /mnt.
var dockerRows = []row{
	{name: " on a bridge", script: "docker run --rm busybox:test sh -c 'ip addr show eth0 | grep -o 172.17.0 && ping -c1 -W5 172.17.0.1 | grep -o \"1 packets received\"'", want: "1 packets received"},
	{name: "'s overlay", script: "docker info --format '{{.Driver}} {{.CgroupVersion}}' | sed 's/^overlay2/overlayfs/'", want: "overlayfs 2"},
	{name: ", privileged", script: "docker run --rm --privileged busybox:test sh -c 'mount -t tmpfs x /tmp && mkdir /tmp/d && mount --bind /dev /tmp/d && ls /tmp/d/null && unshare -Urpf --mount-proc id -u'", want: "/tmp/d/null\n0"},
	{name: ", the container's network", script: "docker run --rm --net=host busybox:test ip link show docker0 | grep -o docker0", want: "docker0"},
	{name: " publishes a port", script: "docker run -d --rm --name web -p 8080:5000 busybox:test sh -c 'while :; do echo pong | nc -l -p 5000; done' >/dev/null && for i in 1 2 3 4 5 6 7 8 9; do bash -c 'read -t 3 x </dev/tcp/127.0.0.1/8080 && echo $x' 2>/dev/null && break; sleep 1; done; docker rm -f web >/dev/null", want: "pong"},
	{name: " builds", script: "mkdir -p /srv/built && cd /srv/built && printf 'FROM busybox:test\\nRUN echo built >/f && rm -r /etc/group && mkdir /y\\nRUN rmdir /y\\nCMD cat /f\\n' >Dockerfile && docker build -q -t built . >/dev/null && docker run --rm built", want: "built"},
	{name: ", several containers on a network", script: "docker network create n1 >/dev/null && docker run -d --rm --name srv --network n1 busybox:test sh -c 'while :; do echo pong | nc -l -p 5000; done' >/dev/null && for i in 1 2 3 4 5 6 7 8 9; do docker run --rm --network n1 busybox:test nc -w 3 srv 5000 && break; sleep 1; done; docker rm -f srv >/dev/null; docker network rm n1 >/dev/null", want: "pong"},
	{name: ", an inner container may not have tun by mknod", script: "docker run --rm busybox:test mknod /tmp/t c 10 200", status: 1, want: "mknod: /tmp/t: Operation not permitted"},
	{name: ", an inner container makes nodes of its own", script: "docker run --rm busybox:test sh -c 'umask 022; mknod /tmp/n c 1 3 && echo x >/tmp/n && stat -c %F,%t,%T,%a /tmp/n && mkdir /d && mknod /d/zero c 1 5 && head -c 3 /d/zero | wc -c && mount | grep -c /d/zero'", want: "character special file,1,3,644\n3\n1"},
	{name: ", an inner container's nodes are its own", script: "docker run -d --rm --name nodes -v /opt:/opt busybox:test sh -c 'mknod /dev/shm/n c 1 3; sleep 100' >/dev/null && docker run --rm busybox:test ls /dev/shm; docker rm -f nodes >/dev/null; grep -c /dev/shm/n /proc/mounts", status: 1, want: "0"},
	{name: ", privileged, tun and fuse by mknod", script: "docker run --rm --privileged busybox:test sh -c 'mkdir /d && mknod /d/tun c 10 200 && mknod /d/fuse c 10 229 && : </d/tun && : </d/fuse && echo both open'", want: "both open"},
	{name: " builds that make nodes", script: "mkdir -p /srv/made && cd /srv/made && printf 'FROM busybox:test\\nRUN mkdir -p /deb/dev && mknod /deb/dev/null c 1 3 && echo x >/deb/dev/null && cp /bin/busybox /deb/ && chroot /deb /busybox sh -c \"echo x >/dev/null && echo chrooted\"\\n' >Dockerfile && docker build --no-cache --progress plain . 2>&1 | grep -o 'chrooted$'", want: "chrooted"},
	{name: ", a device handed on", script: "docker run --rm --device /dev/net/tun --cap-add NET_ADMIN busybox:test sh -c 'ls /dev/net/tun && : </dev/net/tun && echo opens'", want: "opens"},
	{name: ", a user namespace of an ordinary user in an inner container", script: "docker run --rm -u 1000 --security-opt seccomp=unconfined --security-opt systempaths=unconfined busybox:test unshare -Urpf --mount-proc id -u", want: "0"},
}

// newestRows start the newest containerd, use it, and start the newest dockerd on it.
// ctr asks for CPU shares by itself, which cgroup v2 has not everywhere: a hybrid host keeps
// the controller for v1.
var newestRows = of("the newest containerd", newest, []row{
	{name: " starts", script: "systemctl stop docker docker.socket containerd; rm -f /etc/docker/daemon.json; mkdir -p /run/newest && printf 'version = 3\\nroot = \"/var/lib/containerd/newest\"\\nstate = \"/run/newest/state\"\\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\\n[grpc]\\naddress = \"%s\"\\n' $C >/run/newest/c.toml && systemd-run -q --unit=newest-containerd -p Delegate=yes -p KillMode=process --setenv=PATH=$PATH containerd -c /run/newest/c.toml && for i in 1 2 3 4 5 6 7 8 9; do ctr -a $C version >/dev/null 2>&1 && break; sleep 1; done; ctr -a $C version | grep -c '" + peers.Newest + "'", want: "2"},
	{name: ", our client", script: "client $C /opt/busybox.tar", want: "overlay / overlay\nchanged\nexec 0, end 137"},
	{name: ", ctr", script: "ctr -a $C image import /opt/busybox.tar >/dev/null && ctr -a $C run -d --cpu-shares 0 docker.io/library/busybox:test r1 sleep 100 && ctr -a $C task exec --exec-id x r1 id -u && ctr -a $C task kill -s KILL r1 && sleep 1 && ctr -a $C task rm r1 2>/dev/null; ctr -a $C container rm r1 && ctr -a $C container ls -q | wc -l", want: "0\n0"},
	{name: ", dockerd on it", script: "systemd-run -q --unit=newest-dockerd -p Delegate=yes -p KillMode=process --setenv=PATH=$PATH dockerd --containerd $C --data-root /var/lib/docker/newest && for i in $(seq 30); do docker info >/dev/null 2>&1 && break; sleep 1; done; docker load -q -i /opt/busybox.tar && docker version --format '{{.Server.Version}} {{.Client.Version}} {{json .Server.Components}}'", want: "]"},
})

// versionRows tell what runs, and fail if it is older than what the tests are for.
var versionRows = []row{{
	name: "versions",
	script: `is() { echo "$1 $2"; dpkg --compare-versions "$2" ge "$3" || { echo "older than $3"; exit 1; }; }
		is Docker "$(docker version --format '{{.Server.Version}}')" 26 &&
		is runc "$(runc --version | sed -n 's/^runc version //p')" 1.3.3 &&
		is 'the newest runc' "$(/opt/newest/runc/runc --version | sed -n 's/^runc version //p')" 1.5 &&
		is crun "$(crun --version | sed -n 's/^crun version //p')" 1.28 &&
		is podman "$(podman --version | cut -d' ' -f3)" 5 &&
		is containerd "$(containerd --version | cut -d' ' -f3)" 1.7 &&
		is systemd "$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')" 257 &&
		is buildx "$(docker buildx version | cut -d' ' -f2)" 0.10 &&
		is QEMU "$(qemu-aarch64 --version | sed -n 's/.*version \([0-9.]*\).*/\1/p')" 7 && echo new enough`,
	want: "new enough",
}}
