package runtime

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/config"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// testPod returns a pod with its state in a folder of the test's.
func testPod(t testing.TB, name string) *Pod {
	t.Helper()
	cfg := testcontainer.Config(t)
	cfg.Testing = switches
	return NewPod(cfg, slog.New(toDefault{}), "test", name)
}

// switches are those of pods that testPod makes from now on.
var switches config.Testing

// with sets switches until the test's end.
func with(t testing.TB, set func(*config.Testing)) {
	old := switches
	set(&switches)
	t.Cleanup(func() { switches = old })
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
	c := create(t, p, CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, change, args...), Stdio: Stdio{Stdout: w, Stderr: w}})
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
	c := create(t, p, CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, nil, "sleep", "100")})
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
	with(t, func(s *config.Testing) { s.ProcHelper = true })
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
			switches.ProcHelper = helper
			bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
				for i, m := range s.Mounts {
					if m.Type == "proc" {
						s.Mounts[i].Options = []string{"nonsense=1"}
					}
				}
			}, "true")
			_, err := testPod(t, "pod").Create(t.Context(), CreateRequest{ID: "c1", Bundle: bundle})
			switches.ProcHelper = false
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

// toDefault is a handler that hands on to slog's default of the moment.
type toDefault struct{ attrs []slog.Attr }

func (toDefault) Enabled(context.Context, slog.Level) bool { return true }
func (h toDefault) Handle(ctx context.Context, r slog.Record) error {
	return slog.Default().Handler().WithAttrs(h.attrs).Handle(ctx, r)
}

func (h toDefault) WithAttrs(a []slog.Attr) slog.Handler {
	return toDefault{append(slices.Clip(h.attrs), a...)}
}
func (h toDefault) WithGroup(string) slog.Handler { return h }

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
	if p.ids.lease != nil || p.ids.users != 0 || p.ids.userns != nil {
		t.Errorf("the pod has ids still, of %d containers", p.ids.users)
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
