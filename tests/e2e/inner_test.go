// SPDX-License-Identifier: Apache-2.0

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
	if out, status := h.exec(t, task, privileged, "sh", "-c", file("inner-setup.sh")); status != 0 {
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
	{"binfmt: buildx for arm64", file("inner-binfmt-buildx.sh"), 0, "hello from arm64"},
	{"binfmt: formats of one's own", file("inner-binfmt-own.sh"), 2, "/root/own"},

	{"podman as root", file("inner-podman-root.sh"), 0, "0"},
	{"podman's overlay is the kernel's", podman + "--network none busybox:test grep -o '^overlay / overlay' /proc/mounts", 0, "overlay / overlay"},
	{"podman on a bridge", podman + "busybox:test sh -c 'ip route | grep -o default'", 0, "default"},
	{"podman, privileged", podman + "--network none --privileged busybox:test sh -c 'mount -t tmpfs x /tmp && echo mounted'", 0, "mounted"},
	{"podman with runc", podman + "--network none --runtime runc busybox:test echo by runc", 0, "by runc"},
	{"podman, a user namespace of an ordinary user in an inner container", file("inner-podman-userns.sh"), 0, "0"},
	{"podman builds", file("inner-podman-builds.sh"), 0, "built"},
	{"podman of an ordinary user", file("inner-podman-user.sh"), 0, "2"},

	{"runc of today", file("inner-bundle.sh") + "/opt/runc run r1", 0, "uid=0(root) gid=0(root)"},
	{"Debian's runc", file("inner-bundle.sh") + "runc run r2", 0, "uid=0(root) gid=0(root)"},
	{"crun", file("inner-bundle.sh") + "crun run r3", 0, "uid=0(root) gid=0(root)"},

	{"recursive binds of /proc, /sys and /dev are unmounted", "for d in proc sys dev; do mkdir -p /root/rb && mount --rbind /$d /root/rb && mount --make-rslave /root/rb && umount -R /root/rb || exit 1; done; grep -c /root/rb /proc/mounts", 1, "0"},
	{"/ is shared, and storage", "findmnt -no PROPAGATION -M /; findmnt -no PROPAGATION -M /var/lib/docker", 0, "shared\nshared"},
	{"a bind inside /run is made read-only", "mkdir -p /run/ro && mount --bind /run/ro /run/ro && mount -o remount,bind,ro /run/ro && touch /run/ro/x 2>&1; umount /run/ro", 0, "Read-only file system"},
	{"a quiet /sys, which can be made writable", "journalctl -b -o cat | grep -c \"Failed to write 'add'\"; mount -o remount,bind,rw /sys && mount -o remount,bind,ro /sys && unshare -n sh -c 'mount -t sysfs s /mnt && grep -c \"/mnt sysfs rw\" /proc/mounts'", 0, "0\n1"},
	{"a nested user namespace", "unshare -Urpf --mount-proc sh -c 'id -u; ls /proc | grep -c \"^1$\"'", 0, "0\n1"},
	{"a nested user namespace in one", "unshare -Urpf --mount-proc unshare -Urpf --mount-proc id -u", 0, "0"},
	{"a nested user namespace of an ordinary user", "su u1 -c 'unshare -Urpf --mount-proc id -u'", 0, "0"},
	{"a nested user namespace without a pid namespace", "unshare -Ur --mount-proc true 2>&1", 1, "Operation not permitted"},
	{"bubblewrap", "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev id -u", 0, "0"},
	{"bubblewrap of an ordinary user", "su u1 -c 'bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev id -u'", 0, "1000"},

	{"mknod of tun, and an interface", file("inner-mknod-tun.sh"), 0, "t0"},
	{"mknod of fuse, and a mount", file("inner-mknod-fuse.sh"), 0, "x"},
	{"tar with device nodes", file("inner-tar-nodes.sh"), 0, "null\ntty"},
	{"apt-get install of a package that makes device nodes", file("inner-apt-nodes.sh"), 0, "install ok installed\n4\ncharacter special file a,c8 root"},
	{"tar with device nodes on systemd's /tmp and /run, which goes again", file("inner-tar-nodes-on-tmpfs.sh"), 0, "1,3\n1,3\ntmpfs\ntmpfs\ngone"},
	{"debootstrap, and what it made", file("inner-debootstrap.sh"), 0, "character special file 1,3\nii"},
	{"the binds of a chroot", file("inner-chroot-binds.sh"), 0, "undone"},
	{"an overlay by mount(8)", file("inner-overlay.sh"), 0, "removed"},
	{"Docker with userns-remap", file("inner-userns-remap.sh"), 0, "0 100000 65536"},
	{"sudo", "su - u1 -c 'sudo -n true' 2>&1 | grep -o 'password is required'", 0, "password is required"},
}
