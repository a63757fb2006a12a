// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/testcontainer"
)

// asUser runs a script as an ordinary user of the container who has no capabilities.
func asUser(s *specs.Spec) { s.Process.User = specs.User{UID: 1000, GID: 1000} }

// TestTraps: what the kernel refuses in a user namespace and a system container
// can do, and what it refuses still.
func TestTraps(t *testing.T) {
	cases := []struct {
		name   string
		change func(*specs.Spec)
		script string
		want   string
	}{
		{"mknod", nil, "mknod /root/n c 1 3 && echo x >/root/n && stat -c '%F %t,%T %a %u:%g' /root/n", "character special file 1,3 644 0:0\n"},
		{"mknod, its umask", nil, "umask 077; mknod /root/n c 1 5; stat -c %a /root/n", "600\n"},
		{"mknod, relative", nil, "mkdir /root/d; cd /root/d; mknod n c 1 5; mknod ../m c 1 5; ls /root /root/d", "/root:\nd\nm\n\n/root/d:\nn\n"},
		{"mknod through a link", nil, "mkdir /root/d; ln -s /root/d /l; mknod /l/n c 1 5; ls /root/d", "n\n"},
		{"mknod of tun and fuse, which open", nil, "mknod /root/t c 10 200; mknod /root/f c 10 229; dd if=/root/t count=0 2>/dev/null && dd if=/root/f count=0 2>/dev/null && echo open", "open\n"},
		{"mknod of a device of the spec", withDevice, "mknod /root/n c 4 64 && echo made; mknod /root/m c 4 65 2>&1", "made\nmknod: /root/m: Operation not permitted\n"},
		{"mknod in a chroot", nil, "mkdir -p /root/r/bin && cp /bin/busybox /root/r/bin/ && chroot /root/r /bin/busybox mknod /n c 1 3 && ls /root/r", "bin\nn\n"},
		{"mknod on a file system of the container's", nil, "mount -t tmpfs x /tmp; umask 027; mknod /tmp/n c 1 3 && echo x >/tmp/n && stat -c '%F %t,%T %a %u:%g' /tmp/n; umount /tmp/n; umount /tmp", "character special file 1,3 640 0:0\n"},
		{"mknod on one that is mounted without devices", nil, "mount -t tmpfs -o nodev x /tmp; mkdir /tmp/d; mknod /tmp/d/n c 1 3 && stat -c '%F %t,%T' /tmp/d/n; echo x 2>&1 >/tmp/d/n; rm -r /tmp/d && ls /tmp", "character special file 1,3\nsh: can't create /tmp/d/n: Permission denied\n"},
		{"mknod below a bound node", nil, "mount -t tmpfs x /tmp; mknod /tmp/n c 1 3; rm /tmp/n 2>&1; umount /tmp/n; stat -c '%F %t,%T' /tmp/n; rm /tmp/n && ls /tmp", "rm: can't remove '/tmp/n': Device or resource busy\ncharacter special file 1,3\n"},
		{"mknod by a user's owner", nil, "mkdir /root/d; chown 7:8 /root/d; mknod /root/d/n c 1 3; stat -c '%u:%g' /root/d/n", "0:0\n"},

		{"mknod by a way through the caller's folder in /proc", nil, "for p in self/.. self/./.. self/fd/../.. thread-self/../../.. self/task/../..; do mknod /proc/$p/../root/n c 1 3 && rm /root/n || echo $p; done; cd /root; mknod /proc/self/cwd//n c 1 3; ls /root", "n\n"},
		{"mknod in the caller's folder in /proc", nil, "for p in self/n self/net/n self/task/n self/task/$$/../../../n self/ns/n; do mknod /proc/$p c 1 3 2>/dev/null && echo $p; done; true", ""},
		{"a plain bind by a way through the caller's folder in /proc", nil, "mkdir /tmp/d; mount --bind /proc/self/../../dev /proc/self/../../tmp/d && ls -d /tmp/d/null; umount /tmp/d", "/tmp/d/null\n"},

		{"mknod of a disk", nil, "mknod /root/n b 254 0 2>&1; mknod /root/n b 8 0 2>&1", "mknod: /root/n: Operation not permitted\nmknod: /root/n: Operation not permitted\n"},
		{"mknod of kmsg and mem", nil, "mknod /root/n c 1 11 2>&1; mknod /root/n c 1 1 2>&1", "mknod: /root/n: Operation not permitted\nmknod: /root/n: Operation not permitted\n"},
		{"mknod where there is one", nil, "mknod /dev/null c 1 3 2>&1", "mknod: /dev/null: File exists\n"},
		{"mknod nowhere", nil, "mknod /nodir/n c 1 3 2>&1; mknod /bin/busybox/n c 1 3 2>&1", "mknod: /nodir/n: No such file or directory\nmknod: /bin/busybox/n: Not a directory\n"},
		{"mknod where it is read-only", func(s *specs.Spec) { s.Root.Readonly = true }, "mknod /root/n c 1 3 2>&1", "mknod: /root/n: Read-only file system\n"},
		{"mknod by an ordinary user", asUser, "mknod /tmp/n c 1 3 2>&1", "mknod: /tmp/n: Operation not permitted\n"},
		{"mknod in a nested user namespace", nil, "unshare -Ur mknod /root/n c 1 3 2>&1", "mknod: /root/n: Operation not permitted\n"},
		{"mknod in an ordinary container", testcontainer.Ordinary, "mknod /tmp/n c 1 3 2>&1", "mknod: /tmp/n: Operation not permitted\n"},
		{"mknod that a profile denies", deny("mknod", "mknodat"), "mknod /tmp/n c 1 3 2>&1", "mknod: /tmp/n: Directory not empty\n"},
		{"FIFOs are the kernel's", nil, "mknod /tmp/p p && stat -c %F /tmp/p", "fifo\n"},

		{"a device of the spec, its owner and use", func(s *specs.Spec) {
			mode, uid, gid := os.FileMode(0o640), uint32(5), uint32(6)
			s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: "/dev/own/zero", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &uid, GID: &gid})
		}, "stat -c '%t,%T %a %u:%g' /dev/own/zero; head -c 3 /dev/own/zero | wc -c; chown 7 /dev/own/zero && stat -c %u /dev/own/zero", "1,5 640 5:6\n3\n7\n"},

		{"plain binds", nil, "mkdir /tmp/d; for x in /dev /proc /sys /; do mount --bind $x /tmp/d && ls -d /tmp/d/null /tmp/d/uptime /tmp/d/kernel /tmp/d/bin 2>/dev/null; umount /tmp/d || echo stays; done", "/tmp/d/null\n/tmp/d/uptime\n/tmp/d/kernel\n/tmp/d/bin\n"},
		{"a plain bind of /dev has nothing hidden", nil, "mkdir /tmp/d; mount --bind /dev /tmp/d; ls -A /tmp/d/.sysbox /tmp/d/.sysbox/proc /tmp/d/pts", "/tmp/d/.sysbox:\nproc\nsys\n\n/tmp/d/.sysbox/proc:\n\n/tmp/d/pts:\n"},
		{"a plain bind of a read-only root", func(s *specs.Spec) { s.Root.Readonly = true }, "mkdir /run/d; mount --bind / /run/d 2>&1; echo $?", "mount: mounting / on /run/d failed: Invalid argument\n255\n"},
		{"a plain bind of a root with a read-only path", func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"/etc"} }, "mkdir /tmp/d; mount --bind / /tmp/d 2>&1; echo evil >/tmp/d/etc/passwd; head -c 4 /etc/passwd", "mount: mounting / on /tmp/d failed: Invalid argument\nsh: can't create /tmp/d/etc/passwd: nonexistent directory\nroot"},
		{"a plain bind of a root with a mask", func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/etc/passwd"} }, "mkdir /tmp/d; mount --bind / /tmp/d 2>&1; cat /tmp/d/etc/passwd 2>/dev/null", "mount: mounting / on /tmp/d failed: Invalid argument\n"},
		{"a plain bind of a root with masks of the kernel's files only", func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/proc/keys", "/sys/firmware"} }, "mkdir /tmp/d; mount --bind / /tmp/d && ls -d /tmp/d/bin; mount --bind /proc /tmp/d && ls -d /tmp/d/uptime", "/tmp/d/bin\n/tmp/d/uptime\n"},
		{"a plain bind in a nested mount namespace", nil, "mkdir /tmp/d; unshare -m sh -c 'mount --bind /dev /tmp/d && ls -d /tmp/d/null'; ls /tmp/d", "/tmp/d/null\n"},
		{"a plain bind in a nested user namespace", nil, "mkdir /tmp/d; unshare -Urm mount --bind /dev /tmp/d 2>&1", "mount: mounting /dev on /tmp/d failed: Invalid argument\n"},
		{"a nested user namespace cannot mount into the container's tree", nil, "mkdir /tmp/d; unshare -Ur mount --bind /dev /tmp/d 2>&1; ls /tmp/d", "mount: permission denied (are you root?)\n"},
		{"a plain bind in an ordinary container", func(s *specs.Spec) {
			testcontainer.Ordinary(s)
			caps := []string{"CAP_SYS_ADMIN"}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		}, "mkdir /tmp/d; mount --bind / /tmp/d 2>&1; ls /tmp/d", "mount: mounting / on /tmp/d failed: Invalid argument\n"},

		{"an overlay", nil, overlay + "rmdir /tmp/m/sub && ls /tmp/m && cat /proc/mounts | grep -o userxattr", "file\nuserxattr\n"},
		{"an overlay with relative layers", nil, overlayBase + "cd /tmp; mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m && rmdir m/sub && ls m", "file\n"},
		{"an overlay of layers by their caller's folder in /proc", nil, overlayBase + "cd /tmp; exec 5</tmp/l; mount -t overlay o -o lowerdir=/proc/self/fd/5,upperdir=/proc/self/cwd/u,workdir=/proc/self/cwd/w /tmp/m && ls /tmp/m", "file\nsub\n"},
		{"an overlay's error is the kernel's", nil, overlayBase + "mount -t overlay o -o lowerdir=/nowhere,upperdir=/tmp/u,workdir=/tmp/w /tmp/m 2>&1", "mount: mounting o on /tmp/m failed: No such file or directory\n"},
		{"an overlay in a nested user namespace is the kernel's", nil, overlayBase + "unshare -Urm sh -c 'mount -t tmpfs x /tmp/u && mkdir /tmp/u/u /tmp/u/w && mount -t overlay o -o lowerdir=/tmp/l,upperdir=/tmp/u/u,workdir=/tmp/u/w /tmp/m && grep -c userxattr /proc/mounts'", "0\n"},

		{"sysinfo", func(s *specs.Spec) {
			limit := int64(100 << 20)
			s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		}, "busybox free | grep -o 'Mem: *102400' | tr -s ' '", "Mem: 102400\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			change := func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777"}})
				if c.change != nil {
					c.change(s)
				}
			}
			out, status := testcontainer.Run(t, change, "sh", "-c", "PATH=/bin; for a in ln cp chroot rm rmdir tr tail wc; do busybox ln -s busybox /bin/$a; done 2>/dev/null\n"+c.script)
			if out != c.want {
				t.Errorf("exit status %d, output:\n%s\nwant:\n%s", status, out, c.want)
			}
		})
	}
}

const (
	overlayBase = "mount -t tmpfs x /tmp; mkdir -p /tmp/l/sub /tmp/u /tmp/w /tmp/m; echo >/tmp/l/file; "
	overlay     = overlayBase + "mount -t overlay o -o lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w /tmp/m; "
)

// withDevice grants a device that no container has by itself.
func withDevice(s *specs.Spec) {
	s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: "/dev/ttyS0", Type: "c", Major: 4, Minor: 64})
}

// deny is a profile that denies calls with an errno that nothing else answers.
func deny(names ...string) func(*specs.Spec) {
	errno := uint(39) // ENOTEMPTY
	return func(s *specs.Spec) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Syscalls:      []specs.LinuxSyscall{{Names: names, Action: specs.ActErrno, ErrnoRet: &errno}},
		}
	}
}

// TestTrapsOfExecs: what is executed later has a listener of its own.
func TestTrapsOfExecs(t *testing.T) {
	t.Parallel()
	c := testcontainer.Started(t, nil)
	for range 3 {
		p, text := c.Executed(t, testcontainer.Command("sh", "-c", "mknod /root/$$ c 1 3 && echo made"))
		testcontainer.Wait(t, p)
		if out := text(); out != "made\n" {
			t.Errorf("output %q", out)
		}
	}
}
