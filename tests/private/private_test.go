// SPDX-License-Identifier: Apache-2.0

package private

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sysbox/tests/pace"
)

// role is what a run does, that a test starts within this one.
const role = "TEST_PRIVATE_ROLE"

func TestMain(m *testing.M) {
	os.Exit(Run(nil, func() int {
		switch os.Getenv(role) {
		case "":
			return m.Run()
		case "fail":
			return 42
		case "die":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "stay":
			child := exec.Command("sleep", "54321.1")
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := child.Start(); err != nil {
				return 1
			}
			for _, root := range roots() {
				if err := os.MkdirAll(root+"/a/b", 0o755); err != nil {
					return 1
				}
			}
			fmt.Println("ready")
			time.Sleep(time.Hour)
		}
		return 0
	}))
}

// roots are the mount points of the cgroup hierarchies.
func roots() []string {
	var out []string
	found, _ := hierarchies()
	for root := range found {
		out = append(out, root)
	}
	return out
}

func isolated(t *testing.T) {
	t.Helper()
	switch {
	case os.Getuid() != 0:
		t.Skip("makes namespaces, which takes root")
	case Dir() == "":
		t.Skip("a machine of its own has one run at a time")
	}
}

// TestApart: the run is the machine, for all that it can see.
func TestApart(t *testing.T) {
	isolated(t)
	for _, root := range roots() {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && p != root && p != filepath.Join(root, leaf) {
				t.Errorf("there is a cgroup already: %s", p)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if path := strings.SplitN(strings.TrimSpace(line), ":", 3)[2]; path != "/" && path != "/"+leaf {
			t.Errorf("the tests are in the cgroup %s", line)
		}
	}
	if n := processes(""); len(n) != 2 {
		t.Errorf("%d processes are to be seen, want the one that reaps and the tests: %q", len(n), n)
	}
	links, err := net.Interfaces()
	if err != nil || len(links) != 1 || links[0].Flags&net.FlagUp == 0 {
		t.Errorf("links: %v, %v; want the loopback device, up", links, err)
	}
	for _, dir := range append([]string{Dir()}, states...) {
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				t.Errorf("there is something already: %s, %v", p, err)
			}
			return nil
		})
	}
	if os.TempDir() != Dir() {
		t.Errorf("temporary files are in %s, want %s", os.TempDir(), Dir())
	}
}

// processes are the command lines with this in them.
func processes(part string) []string {
	var out []string
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range list {
		if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), part) {
			out = append(out, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return out
}

func nested(t *testing.T, as string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "SYSBOX_TEST_") }), role+"="+as)
	return cmd
}

// TestExitCode: the exit code comes out, and a death is a failure.
func TestExitCode(t *testing.T) {
	isolated(t)
	for as, want := range map[string]int{"pass": 0, "fail": 42, "die": 1} {
		cmd := nested(t, as)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != want || (want == 1) != strings.Contains(string(out), "killed") {
			t.Errorf("a run to %s: exit code %d, want %d; it said %q", as, got, want, out)
		}
	}
	if left := groupsLeft(); len(left) > 0 {
		t.Errorf("cgroups are left: %q", left)
	}
}

// groupsLeft are the cgroups of runs within this one.
func groupsLeft() []string {
	var out []string
	for _, root := range roots() {
		found, _ := filepath.Glob(root + "/" + prefix + "*")
		out = append(out, found...)
	}
	return out
}

// TestSignals: a signal that ends a run ends all that it has started, and its cgroups and
// files go. After SIGKILL another run removes the cgroups.
func TestSignals(t *testing.T) {
	isolated(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := nested(t, "stay")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
				t.Fatalf("%q, %v", line, err)
			}
			// A command line is there a moment after its program was executed.
			eventually(func() bool { return len(processes("54321.1")) == 1 })
			if len(processes("54321.1")) != 1 || len(groupsLeft()) == 0 {
				t.Fatalf("processes %q, cgroups %q", processes("54321.1"), groupsLeft())
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("the run passed")
			}
			eventually(func() bool { return len(processes("54321.1")) == 0 }) // without its starter it ends by itself
			if left := processes("54321.1"); len(left) > 0 {
				t.Errorf("processes are left: %q", left)
			}
			if sig == syscall.SIGKILL {
				// One removes what has ended by then.
				eventually(func() bool {
					if err := nested(t, "pass").Run(); err != nil {
						t.Fatal(err)
					}
					return len(groupsLeft()) == 0
				})
				for _, dir := range dirsLeft() {
					os.RemoveAll(dir)
				}
			}
			if left := groupsLeft(); len(left) > 0 {
				t.Errorf("cgroups are left: %q", left)
			}
			if left := dirsLeft(); len(left) > 0 {
				t.Errorf("folders are left: %q", left)
			}
		})
	}
}

// eventually waits until something is so, or does not come to be.
func eventually(is func() bool) {
	for deadline := time.Now().Add(time.Minute * pace.Patience()); !is() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

// dirsLeft are the folders of runs within this one.
func dirsLeft() []string {
	out, _ := filepath.Glob(Dir() + "/t*")
	return out
}
