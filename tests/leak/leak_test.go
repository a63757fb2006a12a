package leak

import (
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
	o := Options{Dirs: []string{dir}, Match: func(l string) bool { return strings.Contains(l, "12345.678") }}
	before, err := Take(o)
	if err != nil {
		t.Fatal(err)
	}
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
	defer syscall.Unmount(mnt, syscall.MNT_DETACH)
	cgroup := "/sys/fs/cgroup/pids/sysbox-planted"
	if _, err := os.Stat("/sys/fs/cgroup/pids"); err != nil {
		cgroup = "/sys/fs/cgroup/sysbox-planted"
	}
	must(os.Mkdir(cgroup, 0o755))
	defer os.Remove(cgroup)
	sleep := exec.Command("sleep", "12345.678")
	sleep.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	must(sleep.Start())
	defer func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	}()
	must(os.MkdirAll("/run/containerd/s", 0o711))
	l, err := net.Listen("unix", "/run/containerd/s/sysbox-planted")
	must(err)
	defer l.Close()
	must(exec.Command("ip", "link", "add", "sbxplant0", "type", "veth", "peer", "name", "sbxplant1").Run())
	defer exec.Command("ip", "link", "del", "sbxplant0").Run()

	found, err := Compare(before, o)
	must(err)
	all := strings.Join(found, "\n")
	for _, want := range []string{"record.json", "storage/ns/id", "a mount is left: " + mnt, cgroup, "12345.678", "a namespace is left: user:", "s/sysbox-planted", "sbxplant0"} {
		if !strings.Contains(all, want) {
			t.Errorf("not found: %s in\n%s", want, all)
		}
	}
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
