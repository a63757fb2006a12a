package leak

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const strangers = "SYSBOX_LEAK_STRANGERS"

// TestStrangers: a cgroup with processes of another pid namespace is not ours
// to judge; an empty one and one with our processes are.
func TestStrangers(t *testing.T) {
	if dir := os.Getenv(strangers); dir != "" {
		list, err := cgroups(Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			if strings.HasPrefix(p, dir) {
				os.Stdout.WriteString(filepath.Base(p) + "\n")
			}
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("makes cgroups and namespaces, which takes root")
	}
	root := "/sys/fs/cgroup/pids"
	if _, err := os.Stat(root); err != nil {
		root = "/sys/fs/cgroup"
	}
	root = filepath.Join(root, "sysbox-strangers")
	full, empty := filepath.Join(root, "full"), filepath.Join(root, "empty")
	for _, d := range []string{root, full, empty} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(d); err != nil {
				t.Error(err)
			}
		})
	}
	sleep := exec.CommandContext(t.Context(), "sleep", "1000")
	sleep.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait() // it was killed
	})
	if err := os.WriteFile(filepath.Join(full, "cgroup.procs"), []byte(strconv.Itoa(sleep.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	list, err := cgroups(Options{})
	if all := strings.Join(list, "\n"); err != nil || !strings.Contains(all, full) || !strings.Contains(all, empty) {
		t.Errorf("where the process is to be seen: %v, %s", err, all)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--pid", "--fork", "--mount-proc", exe, "-test.run=^TestStrangers$")
	cmd.Env = append(os.Environ(), strangers+"="+root)
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSuffix(string(out), "PASS\n"); err != nil || got != "empty\n" {
		t.Errorf("in another pid namespace: %v, %q; want the empty one alone", err, got)
	}
}
