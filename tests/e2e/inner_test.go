package e2e

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// booted starts a container whose init is systemd and waits until it is up.
func (h *host) booted(t *testing.T, archive func() (string, error), opts ...oci.SpecOpts) (containerd.Task, <-chan containerd.ExitStatus) {
	t.Helper()
	name, err := archive()
	if err != nil {
		t.Fatal(err)
	}
	image, err := h.Load(background(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return h.boot(t, h.container(t, image, opts...))
}

// boot starts a task of a container whose init is systemd.
func (h *host) boot(t *testing.T, c containerd.Container) (containerd.Task, <-chan containerd.ExitStatus) {
	t.Helper()
	task, exit := h.task(t, c, cio.NullIO)
	state := ""
	for deadline := time.Now().Add(90 * time.Second * patience()); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		out, _ := h.exec(t, task, nil, "systemctl", "is-system-running")
		if state = strings.TrimSpace(out); state == "running" || state == "degraded" {
			break
		}
	}
	if state != "running" {
		failed, _ := h.exec(t, task, nil, "systemctl", "--failed", "--no-legend", "--no-pager")
		t.Fatalf("systemctl is-system-running: %s\n%s", state, failed)
	}
	return task, exit
}

// TestInner runs in a system container what people run there: the newest that Debian has,
// unmodified, and the newest there is of Docker, containerd and runc; each script with what
// it must print. All share one container, in which only podman's networks and a user are
// set up beforehand.
func TestInner(t *testing.T) {
	h := on(t, peers.Newest)
	before := hostFormats()
	// sudo and newuidmap gain privileges within the container, which ctr's default forbids.
	task, exit := h.booted(t, images.Inner, oci.WithNewPrivileges, newestPrograms(t))
	setup := "set -e; useradd -m -s /bin/bash u1; loginctl enable-linger u1; docker load -q -i /opt/busybox.tar; mkdir -p /root/empty"
	if out, status := h.exec(t, task, privileged, "sh", "-c", setup); status != 0 {
		t.Fatalf("set up: exit status %d\n%s", status, out)
	}
	for _, s := range slices.Concat(versionRows, of("Docker", "", dockerRows), inner, newestRows, of("the newest Docker", newest, dockerRows)) {
		t.Run(s.name, func(t *testing.T) {
			start := time.Now()
			out, status := h.exec(t, task, privileged, "timeout", "-k", "5", strconv.Itoa(int(170*patience())), "sh", "-c", s.script)
			if !strings.HasSuffix(strings.TrimSpace(out), s.want) || status != s.status {
				t.Errorf("exit status %d, want %d; output:\n%s\nwant at its end: %s", status, s.status, out, s.want)
			}
			t.Logf("%v\n%s", time.Since(start).Round(time.Millisecond), out)
		})
	}
	if after := hostFormats(); after != before {
		t.Errorf("the host's binfmt_misc was %q and is %q", before, after)
	}
	kill(t, task, exit, 37) // SIGRTMIN+3
}

func privileged(p *specs.Process) { p.NoNewPrivileges = false }

// hostFormats lists the host's own binary formats; "" if it has no table of them.
func hostFormats() string {
	list, _ := os.ReadDir("/proc/sys/fs/binfmt_misc")
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// pids-limit 0: this project's CI has no pids
// controller in cgroup v2, podman's default asks for it.
const podman = "podman --log-level=error run --pids-limit 0 --rm "

var inner = []row{
	{"binfmt: an arm64 program", "/opt/hello-arm64", 0, "hello from arm64"},
	{"binfmt: buildx for arm64", "mkdir -p /root/arm && cd /root/arm && cp /opt/hello-arm64 . && printf 'FROM scratch\\nADD hello-arm64 /hello\\nRUN [\"/hello\"]\\n' >Dockerfile && docker buildx build -q --platform linux/arm64 -t arm . >/dev/null && docker run --rm --platform linux/arm64 arm /hello", 0, "hello from arm64"},
	{"binfmt: formats of one's own", "cd /proc/sys/fs/binfmt_misc && echo ':own:M::OWNMAGIC::/bin/echo:' >register && printf OWNMAGIC >/root/own && chmod 755 /root/own && /root/own && echo -1 >own && ls own 2>/dev/null", 2, "/root/own"},

	{"podman as root", podman + "busybox:test true 2>/dev/null || podman load -q -i /opt/busybox.tar; " + podman + "--network none busybox:test sh -c 'mkdir /q && rmdir /q && rm -r /etc/group && id -u'", 0, "0"},
	{"podman's overlay is the kernel's", podman + "--network none busybox:test grep -o '^overlay / overlay' /proc/mounts", 0, "overlay / overlay"},
	{"podman on a bridge", podman + "busybox:test sh -c 'ip route | grep -o default'", 0, "default"},
	{"podman, privileged", podman + "--network none --privileged busybox:test sh -c 'mount -t tmpfs x /tmp && echo mounted'", 0, "mounted"},
	{"podman with runc", podman + "--network none --runtime runc busybox:test echo by runc", 0, "by runc"},
	{"podman, a user namespace of an ordinary user in an inner container", podman + "--network none -u 1000 --security-opt seccomp=unconfined --security-opt unmask=ALL busybox:test unshare -Urpf --mount-proc id -u", 0, "0"},
	{"podman builds", "cd /root/empty && printf 'FROM busybox:test\\nRUN rm -r /etc/group && mkdir /y\\nRUN rmdir /y && echo built >/f\\n' >Containerfile && podman build --network none -q -t pb -f Containerfile . >/dev/null && " + podman + "--network none pb cat /f", 0, "built"},
	{"podman of an ordinary user", "cp /opt/busybox.tar /tmp/b.tar && chmod 644 /tmp/b.tar && su - u1 -c \"podman load -q -i /tmp/b.tar >/dev/null 2>&1; " + podman + "busybox:test sh -c 'mkdir /q && rmdir /q && rm -r /etc/group && cat /proc/self/uid_map | wc -l'\" 2>/dev/null", 0, "2"},

	{"runc of today", bundle + "/opt/runc run r1", 0, "uid=0(root) gid=0(root)"},
	{"Debian's runc", bundle + "runc run r2", 0, "uid=0(root) gid=0(root)"},
	{"crun", bundle + "crun run r3", 0, "uid=0(root) gid=0(root)"},

	{"a nested user namespace", "unshare -Urpf --mount-proc sh -c 'id -u; ls /proc | grep -c \"^1$\"'", 0, "0\n1"},
	{"a nested user namespace in one", "unshare -Urpf --mount-proc unshare -Urpf --mount-proc id -u", 0, "0"},
	{"a nested user namespace of an ordinary user", "su u1 -c 'unshare -Urpf --mount-proc id -u'", 0, "0"},
	{"a nested user namespace without a pid namespace", "unshare -Ur --mount-proc true 2>&1", 1, "Operation not permitted"},
	{"bubblewrap", "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev id -u", 0, "0"},
	{"bubblewrap of an ordinary user", "su u1 -c 'bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev id -u'", 0, "1000"},

	{"mknod of tun, and an interface", "rm -rf /root/n && mkdir /root/n && mknod /root/n/tun c 10 200 && mount --bind /root/n/tun /dev/net/tun && ip tuntap add t0 mode tap && ip -br link show t0 | grep -o ^t0 && umount /dev/net/tun && ip link del t0", 0, "t0"},
	{"mknod of fuse, and a mount", "rm -f /root/fuse && mknod /root/fuse c 10 229 && mount --bind /root/fuse /dev/fuse && mkdir -p /root/o/l /root/o/u /root/o/w /root/o/m && echo x >/root/o/l/f && fuse-overlayfs -o lowerdir=/root/o/l,upperdir=/root/o/u,workdir=/root/o/w /root/o/m && cat /root/o/m/f && umount /root/o/m && umount /dev/fuse", 0, "x"},
	{"tar with device nodes", "mkdir -p /root/t1 /root/t2 && mknod /root/t1/null c 1 3 && mknod /root/t1/tty c 5 0 && tar -C /root/t1 -cf /root/t.tar . && tar -C /root/t2 -xf /root/t.tar && echo x >/root/t2/null && ls /root/t2", 0, "null\ntty"},
	{"apt-get install of a package that makes device nodes", "mkdir -p /srv/nodes/DEBIAN && cd /srv && printf 'Package: nodes\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.com>\nDescription: makes nodes\n' >nodes/DEBIAN/control && printf '#!/bin/sh\nset -e\nmkdir -p /var/lib/nodes/dev\nmknod -m 666 /var/lib/nodes/dev/null c 1 3\nmknod -m 644 /var/lib/nodes/dev/urandom c 1 9\nmknod /dev/nodes-tun c 10 200\n' >nodes/DEBIAN/postinst && chmod 755 nodes/DEBIAN/postinst && dpkg-deb -b nodes nodes.deb >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq ./nodes.deb >/srv/apt.log 2>&1 || cat /srv/apt.log; dpkg-query -W -f '${Status}\n' nodes && echo x >/var/lib/nodes/dev/null && head -c 4 /var/lib/nodes/dev/urandom | wc -c && stat -c '%F %t,%T %U' /dev/nodes-tun", 0, "install ok installed\n4\ncharacter special file a,c8 root"},
	{"tar with device nodes on systemd's /tmp and /run, which goes again", "for d in /tmp /run; do mkdir $d/t1 $d/t2 && mknod $d/t1/null c 1 3 && mknod $d/t1/tty c 5 0 && tar -C $d/t1 -cf $d/t.tar . && tar -C $d/t2 -xf $d/t.tar && stat -c %t,%T $d/t2/null && rm -r $d/t1 $d/t2 $d/t.tar || exit 9; done; stat -f -c %T /tmp /run; echo gone", 0, "1,3\n1,3\ntmpfs\ntmpfs\ngone"},
	{"debootstrap, and what it made", "debootstrap --variant=minbase --unpack-tarball=/opt/debs.tgz trixie /root/deb >/root/deb.log 2>&1 || tail -5 /root/deb.log; stat -c '%F %t,%T' /root/deb/dev/null && chroot /root/deb dpkg -l apt | grep -o ^ii", 0, "character special file 1,3\nii"},
	{"the binds of a chroot", "mkdir -p /root/c/dev /root/c/proc /root/c/sys && for d in dev proc sys; do mount --bind /$d /root/c/$d || exit 9; done; ls /root/c/dev/null /root/c/proc/uptime; for d in dev proc sys; do umount /root/c/$d || exit 8; done; echo undone", 0, "undone"},
	{"an overlay by mount(8)", "cd /run && mkdir -p l/sub u w m && mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m && rmdir m/sub && ls m && umount m && echo removed", 0, "removed"},
	{"Docker with userns-remap", "systemctl stop docker docker.socket && mkdir -p /etc/docker && echo '{\"userns-remap\":\"default\"}' >/etc/docker/daemon.json && systemctl start docker && docker load -q -i /opt/busybox.tar >/dev/null && docker run --rm busybox:test sh -c 'mkdir /q && rmdir /q && rm -r /etc/group && cat /proc/self/uid_map | tr -s \" \"'", 0, "0 100000 65536"},
	{"sudo", "su - u1 -c 'sudo -n true' 2>&1 | grep -o 'password is required'", 0, "password is required"},
}

// bundle makes a bundle of busybox for an inner runtime; its process is id(1).
const bundle = `mkdir -p /root/bundle/rootfs && cd /root/bundle && tar -xf /opt/busybox.tar -O layer.tar | tar -C rootfs -xf - && rm -f config.json && runc spec && sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"id"/' config.json && `
