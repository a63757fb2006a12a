// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/sys"
	"sysbox/tests/testcontainer"
)

// TestTreeIsLocked: what the host mounted cannot be taken away, made writable
// or moved by the container's root. What init mounted itself can: the masks of the
// kernel's own file systems too, as no isolation depends on these (TestNothingRestsOnMasks). It runs
// alone: a child that another test starts has files of its mounts until its execve, which makes
// them busy.
func TestTreeIsLocked(t *testing.T) {
	for _, c := range []struct {
		name, script string
		ok           bool
	}{
		{"unmount proc", "umount /proc", false},
		{"unmount /dev", "umount -l /dev", false},
		{"unmount a mask in the root", "umount /etc/passwd", false},
		{"unmount a mask of proc", "umount /proc/keys", true},
		{"make /proc/bus writable", "mount -o remount,rw /proc/bus", true},
		{"make it writable by a bind", "mkdir /tmp/x && mount --bind /proc/bus /tmp/x && mount -o remount,bind,rw /tmp/x", true},
		{"a plain bind of a directory of sysfs with a mask", "mkdir /tmp/x && mount --bind /sys/kernel /tmp/x", true},
		{"uncover the complete proc", "umount /dev/.sysbox", true},
		{"unmount its own tmpfs", "umount /run", true},
		{"mount a tmpfs", "mount -t tmpfs x /tmp && umount /tmp", true},
		{"unmount a recursive bind of /proc, /sys and /dev", `for d in proc sys dev; do
			mkdir /tmp/$d && mount --rbind /$d /tmp/$d || exit 1
			while p=$(busybox awk '$5 ~ "^/tmp/'$d'" {last=$5} END {print last}' /proc/self/mountinfo) && [ -n "$p" ]; do umount "$p" || exit 1; done
		done`, true},
		{"nested namespaces with a proc of their own", "unshare -Urpf --mount-proc true", true},
		{"nested proc by hand", "unshare -Urpfm sh -c 'mount -t proc proc /tmp && cat /tmp/uptime >/dev/null'", true},
		{"nested sysfs", "unshare -Urnm sh -c 'mount -t sysfs sys /tmp && ls /tmp/class/net/lo'", true},
		{"proc and sysfs of its own", "mount -t proc proc /tmp && umount /tmp && mount -t sysfs sys /tmp", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, status := testcontainer.Run(t, func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/etc/passwd") }, "sh", "-c", c.script)
			if ok := status == 0; ok != c.ok {
				t.Errorf("%s: exit status %d\n%s", c.script, status, out)
			}
		})
	}
}

// TestMasksOfOrdinaryContainers: they are locked, those of the kernel's file systems too.
func TestMasksOfOrdinaryContainers(t *testing.T) {
	ordinary := func(s *specs.Spec) {
		s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE")
		caps := []string{"CAP_SYS_ADMIN"}
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	}
	for _, script := range []string{"umount /proc/keys", "mount -o remount,rw /proc/bus"} {
		if out, status := testcontainer.Run(t, ordinary, "sh", "-c", script); status == 0 {
			t.Errorf("%s: %s", script, out)
		}
	}
}

// TestUnshiftableBind: a bind of a file system that cannot be idmapped is
// mounted with a warning, or refused where the configuration says so.
func TestUnshiftableBind(t *testing.T) {
	t.Parallel()
	change := func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/proc/self/limits", Options: []string{"bind", "ro"}})
	}
	for unshifted, refused := range map[string]bool{"warn": false, "refuse": true} {
		p := testcontainer.NewPod(t)
		p.Config.Unshifted = unshifted
		c, err := p.Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, change, "true")})
		if (err != nil) != refused {
			t.Errorf("%s: %v", unshifted, err)
		}
		if err != nil {
			continue
		}
		if s := p.Said(); !strings.Contains(s, "ids are not shifted") || !strings.Contains(s, "container=c1") {
			t.Errorf("%s: the log is %q", unshifted, s)
		}
		if err := c.Delete(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestPropagation: each option is what the container sees, and what the host mounts
// later comes to where it was asked for only.
func TestPropagation(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounts, which takes root")
	}
	shared := t.TempDir()
	mountAt := func(dir string, flags uintptr) {
		t.Helper()
		if err := unix.Mount("none", dir, "tmpfs", flags, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mountAt(shared, 0)
	mountAt(filepath.Join(shared, "sub"), 0)
	if err := unix.Mount("", shared, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	wants := map[string]string{ // of the mount and of the one below it
		"private": "private private", "rprivate": "private private", "slave": "slave slave", "rslave": "slave slave",
		"unbindable": "unbindable private", "runbindable": "unbindable unbindable",
	}
	c := testcontainer.Started(t, func(s *specs.Spec) {
		for option := range wants {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/" + option, Type: "bind", Source: shared, Options: []string{"rbind", option}})
		}
	})
	mountAt(filepath.Join(shared, "sub/sub"), 0)
	is := map[string]string{}
	for m, err := range sys.MountsOf(fmt.Sprintf("/proc/%d/mountinfo", c.Init().Pid())) {
		if err != nil {
			t.Fatal(err)
		}
		is[m.Point] = "private"
		if tags := strings.Join(m.Propagation, " "); strings.Contains(tags, "master:") {
			is[m.Point] = "slave"
		} else if strings.Contains(tags, "unbindable") {
			is[m.Point] = "unbindable"
		} else if strings.Contains(tags, "shared:") {
			is[m.Point] = "shared"
		}
	}
	for option, want := range wants {
		at := "/" + option
		if got := is[at] + " " + is[at+"/sub"]; got != want {
			t.Errorf("%s: %s, want %s", option, got, want)
		}
		if _, came := is[at+"/sub/sub"]; came != strings.Contains(want, "slave") {
			t.Errorf("%s: what the host has mounted came in: %v", option, came)
		}
		out := c.Script(t, "mkdir /tmp/"+option+" && mount --rbind "+at+" /tmp/"+option+" && echo bound")
		if bound := strings.Contains(out, "bound"); bound != (is[at] != "unbindable") {
			t.Errorf("%s: a bind of it: %s", option, out)
		}
	}
}
