package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// testIDs is a pool that hardly another process of the machine has: the end of a pod
// waits for all who use its range.
func testIDs() IDConfig {
	const size = 1 << 22
	return IDConfig{User: "sysbox-test-none", Size: 1 << 18, PoolStart: 0x40000000 + uint32(os.Getpid()%128)*size, PoolSize: size}
}

// testPod returns a pod with its state in a folder of the test's.
func testPod(t testing.TB, name string) *Pod {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	dir := t.TempDir()
	cfg := &Config{
		StateDir: filepath.Join(dir, "state"), DataDir: filepath.Join(dir, "data"),
		IDs: testIDs(), Unshifted: "warn",
	}
	return NewPod(cfg, "test", name)
}

// busybox makes a bundle whose root has busybox and nothing else.
func busybox(t testing.TB, change func(*specs.Spec), args ...string) string {
	t.Helper()
	bundle := t.TempDir()
	root := filepath.Join(bundle, "rootfs")
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("install busybox-static: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"sh", "cat", "id", "ls", "sleep", "mount", "umount", "stat", "env", "hostname", "touch", "ps", "echo", "readlink", "unshare", "stty", "tty", "kill", "mknod", "grep", "head", "dd", "true", "false", "chown", "mkdir"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"), 0o644)
	s := testcontainer.Spec(fmt.Sprintf("/sysbox-test-%d/%s", os.Getpid(), filepath.Base(bundle)), args...)
	if change != nil {
		change(s)
	}
	j, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), j, 0o600); err != nil {
		t.Fatal(err)
	}
	return bundle
}

// pipe collects what a process writes.
func pipe(t testing.TB) (w *os.File, text func() string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); r.Close() })
	return w, func() string {
		w.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
}

func create(t testing.TB, p *Pod, r CreateRequest) *Container {
	t.Helper()
	c, err := p.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background()); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
	return c
}

// run runs a container to its end and returns what it wrote.
func run(t *testing.T, change func(*specs.Spec), args ...string) (string, int) {
	t.Helper()
	p := testPod(t, "pod")
	w, text := pipe(t)
	c := create(t, p, CreateRequest{ID: "c1", Bundle: busybox(t, change, args...), Stdio: Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exit := wait(t, c.Init())
	return text(), exit.Status
}

func wait(t testing.TB, p *Process) Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute*pace.Patience())
	defer cancel()
	exit, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

func TestContainerRuns(t *testing.T) {
	out, status := run(t, nil, "sh", "-c", "id -u; hostname; echo $HOME; cat /proc/self/uid_map; mount; ls -ln /dev /bin/busybox; ls -l /proc/self/fd; cat /proc/self/status | grep Cap; exit 7")
	t.Log(out)
	if status != 7 {
		t.Errorf("exit status %d, want 7", status)
	}
	for _, want := range []string{"0\nbox\n/root\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the output", want)
		}
	}
}

func TestExec(t *testing.T) {
	p := testPod(t, "pod")
	c := create(t, p, CreateRequest{ID: "c1", Bundle: busybox(t, nil, "sleep", "100")})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, text := pipe(t)
	proc, err := c.Exec(t.Context(), ExecRequest{
		Process: &specs.Process{Args: []string{"sh", "-c", "id; echo $HOME; readlink /proc/self/ns/user /proc/1/ns/user; cat /proc/self/cgroup; ls -l /proc/self/fd; exit 3"}, Cwd: "/", Env: []string{"PATH=/bin"}},
		Stdio:   Stdio{Stdout: w, Stderr: w},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := wait(t, proc).Status; got != 3 {
		t.Errorf("exit status %d, want 3", got)
	}
	t.Log(text())
	if err := c.Init().Signal(int(unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, c.Init()).Status; got != 137 {
		t.Errorf("init's exit status %d, want 137", got)
	}
}

// TestProcOfOlderKernels: without the option pidns a helper makes proc, with
// the same result.
func TestProcOfOlderKernels(t *testing.T) {
	forceProcHelper = true
	defer func() { forceProcHelper = false }()
	out, status := run(t, nil, "sh", "-c", "echo $$; ls -d /proc/[0-9]*; stat -c %u /proc/1/status; umount /proc || echo locked; unshare -Urpf --mount-proc echo nested")
	if status != 0 || !strings.HasPrefix(out, "1\n/proc/1\n") || !strings.Contains(out, "locked\nnested\n") {
		t.Errorf("exit status %d, output %q", status, out)
	}
}

// TestProcThatCannotBe: an option that procfs does not know fails a Create, whoever
// makes the proc, and nobody waits for what was made up to there.
func TestProcThatCannotBe(t *testing.T) {
	for _, helper := range []bool{false, true} {
		for range 20 { // two processes tell of it, in any order
			forceProcHelper = helper
			bundle := busybox(t, func(s *specs.Spec) {
				for i, m := range s.Mounts {
					if m.Type == "proc" {
						s.Mounts[i].Options = []string{"nonsense=1"}
					}
				}
			}, "true")
			_, err := testPod(t, "pod").Create(t.Context(), CreateRequest{ID: "c1", Bundle: bundle})
			forceProcHelper = false
			if err == nil || !strings.Contains(err.Error(), "proc") {
				t.Fatalf("error %v, want one of proc", err)
			}
		}
	}
}

// logged collects what is logged until the test's end.
func logged(t *testing.T) func() string {
	var b struct {
		sync.Mutex
		bytes.Buffer
	}
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		b.Lock()
		defer b.Unlock()
		return b.Buffer.Write(p)
	}), nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return func() string {
		b.Lock()
		defer b.Unlock()
		return b.String()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// nothingLeft looks for what a container that is gone, or was refused, could have left:
// its record, its ids, its cgroups, mounts of its files, processes in its cgroups.
func nothingLeft(t *testing.T, p *Pod, bundle string) {
	t.Helper()
	filepath.WalkDir(p.cfg.StateDir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, "/containers/") {
			t.Errorf("the record %s is left", path)
		}
		return nil
	})
	if p.lease != nil || p.users != 0 || p.userns != nil {
		t.Errorf("the pod has ids still, of %d containers", p.users)
	}
	name := fmt.Sprintf("sysbox-test-%d/%s", os.Getpid(), filepath.Base(bundle))
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		found, err := filepath.Glob(pattern + name)
		if err != nil || len(found) > 0 {
			t.Errorf("cgroups are left: %q, %v", found, err)
		}
	}
	if strings.Contains(mounts(t), bundle) {
		t.Error("mounts are left")
	}
}
