// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFindsPlanted: a leak of each kind is planted and found.
func TestFindsPlanted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("plants mounts and namespaces, which takes root")
	}
	dir := t.TempDir()
	o := Options{Dirs: []string{dir}, Open: []int{os.Getpid()}, Match: planted}
	before, err := Take(o)
	if err != nil {
		t.Fatal(err)
	}
	wanted := plant(t, dir)
	now, err := Take(o)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(before.missing(now), "\n")
	for _, want := range wanted {
		if !strings.Contains(all, want) {
			t.Errorf("not found: %s in\n%s", want, all)
		}
	}
}

// planted tells of a process that plant has started.
func planted(cmdline string) bool { return strings.Contains(cmdline, "12345.678") }

// plant leaves something of each kind until the test's end, in a state folder what is of
// files, and returns what is to be said of it.
func plant(t *testing.T, dir string) []string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(dir, "record.json"), nil, 0o600))
	must(os.MkdirAll(filepath.Join(dir, "storage/ns/id"), 0o700))
	mnt := t.TempDir()
	must(syscall.Mount("planted", mnt, "tmpfs", 0, ""))
	t.Cleanup(func() { syscall.Unmount(mnt, syscall.MNT_DETACH) })
	cgroup := "/sys/fs/cgroup/pids/sysbox-planted"
	if _, err := os.Stat("/sys/fs/cgroup/pids"); err != nil {
		cgroup = "/sys/fs/cgroup/sysbox-planted"
	}
	must(os.Mkdir(cgroup, 0o755))
	t.Cleanup(func() { os.Remove(cgroup) })
	sleep := exec.Command("sleep", "12345.678")
	sleep.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	must(sleep.Start())
	t.Cleanup(func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	})
	must(os.MkdirAll("/run/containerd/s", 0o711))
	l, err := net.Listen("unix", "/run/containerd/s/sysbox-planted")
	must(err)
	t.Cleanup(func() { l.Close() })
	must(exec.Command("ip", "link", "add", "sbxplant0", "type", "veth", "peer", "name", "sbxplant1").Run())
	t.Cleanup(func() { exec.Command("ip", "link", "del", "sbxplant0").Run() })

	pinned := filepath.Join(t.TempDir(), "ns")
	must(os.WriteFile(pinned, nil, 0o600))
	must(syscall.Mount(fmt.Sprintf("/proc/%d/ns/net", sleep.Process.Pid), pinned, "", syscall.MS_BIND, ""))
	t.Cleanup(func() { syscall.Unmount(pinned, syscall.MNT_DETACH) })
	held, err := os.Open(dir)
	must(err)
	t.Cleanup(func() { held.Close() })
	fuseDir, loop := t.TempDir(), plantLoop(t)
	connection := plantFUSE(t, fuseDir)
	return []string{
		"record.json", "storage/ns/id", "a mount is left: " + mnt, cgroup, "12345.678", "a namespace is left: user:", "a namespace is left: net:", "a mount is left: " + pinned,
		"s/sysbox-planted", "sbxplant0", "a descriptor is left: " + dir + " in process", loop, connection,
	}
}

// plantLoop sets up a loop device and returns what is to be found.
func plantLoop(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Logf("no loop device is planted: the kernel has none: %v", err)
		return ""
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("losetup -d: %v: %s", err, out)
		}
	})
	return "a loop device is left: /sys/block/" + filepath.Base(device)
}

// plantFUSE mounts a file system that nobody serves and returns what is to be
// found.
func plantFUSE(t *testing.T, dir string) string {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Logf("no FUSE connection is planted: the kernel has none: %v", err)
		return ""
	}
	// fusectl need not be mounted, and without it there is nothing to look at.
	if entries, _ := os.ReadDir(connections); len(entries) == 0 {
		if err := syscall.Mount("fusectl", connections, "fusectl", 0, ""); err == nil {
			t.Cleanup(func() { syscall.Unmount(connections, syscall.MNT_DETACH) })
		}
	}
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	if err := syscall.Mount("planted", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return "a FUSE connection is left: " + connections
}

// TestNothingLeft: with nothing planted there is nothing to find.
func TestNothingLeft(t *testing.T) {
	before, err := Take(Options{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := Compare(before, Options{})
	if err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
}
