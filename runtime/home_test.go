package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/config"
)

func init() {
	// An overlay lets this process's threads in, which a FUSE file system does not.
	routines["home overlay"] = func() error {
		s, err := newSilence("/root/f")
		if err != nil {
			return err
		}
		const low = "/root/low"
		if err := errors.Join(os.Mkdir(low, 0o755), os.Symlink("silent", low+"/passwd"), unix.Mount("o", "/etc", "overlay", 0, "lowerdir=/root/f:"+low)); err != nil {
			return err
		}
		fmt.Println("silent")
		<-s.asked
		fmt.Println("asked")
		select {}
	}
	routines["home silence"] = func() error {
		fuse, err := unix.Open("/dev/fuse", unix.O_RDWR, 0)
		if err != nil {
			return err
		}
		data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse)
		if err := unix.Mount("silent", "/etc", "fuse", 0, data); err != nil {
			return err
		}
		fmt.Println("silent")
		select {}
	}
}

// waiting are the threads of this process that wait for a FUSE file system.
func waiting(t *testing.T) (out []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil || len(tasks) == 0 {
		t.Fatal(tasks, err)
	}
	for _, task := range tasks {
		if at, err := os.ReadFile(task + "/wchan"); err == nil && string(at) == "request_wait_answer" {
			out = append(out, task)
		}
	}
	return out
}

// TestHomeInSilentOverlay: no thread of the shim asks an overlay of the container above a file
// system that never answers, but a process that ends with the container.
func TestHomeInSilentOverlay(t *testing.T) {
	next, w := lines(t)
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: insideBundle(t, "home overlay", nil), Stdio: Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := next(); s != "silent" {
		t.Fatal(s)
	}
	home := make(chan string)
	go func() { home <- c.homes.Now(c.init, 1000) }()
	if s := next(); s != "asked" {
		t.Fatal(s)
	}
	if threads := waiting(t); len(threads) > 0 {
		t.Errorf("threads wait: %v", threads)
	}
	if got := <-home; got != "/" {
		t.Errorf("by the silent file system: %q", got)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// homeOf is what an exec of a user has as HOME.
func homeOf(t *testing.T, c *Container, uid uint32) string {
	t.Helper()
	w, text := pipe(t)
	p, err := c.Exec(t.Context(), ExecRequest{
		Process: &specs.Process{Args: []string{"/bin/sh", "-c", "echo $HOME"}, Cwd: "/", User: specs.User{UID: uid, GID: uid}},
		Stdio:   Stdio{Stdout: w, Stderr: w},
	})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, p)
	return strings.TrimSpace(text())
}

// TestHomeOfExec: an exec lives where the container's /etc/passwd says now, whatever
// the container has made of that.
func TestHomeOfExec(t *testing.T) {
	c := started(t, nil)
	if got := homeOf(t, c, 1000); got != "/home/user" {
		t.Errorf("by the image: %q", got)
	}
	for _, s := range []struct{ change, want string }{
		{"echo 'new:x:1000:1000::/srv/new:/bin/sh' >/etc/passwd", "/srv/new"},
		{"ln -s ../tmp/passwd /etc/p; echo 'new:x:1000:1000::/by/link:' >/tmp/passwd; mv /etc/p /etc/passwd", "/by/link"},
		{"rm /etc/passwd; ln -s /proc/1/environ /etc/passwd", "/"},
		{"rm /etc/passwd; ln -s /dev/zero /etc/passwd", "/"},
		{"rm /etc/passwd; mkfifo /etc/passwd", "/"},
		{"rm /etc/passwd; mkdir /etc/passwd", "/"},
		{"mount -t tmpfs x /etc; echo 'new:x:1000:1000::/mounted:' >/etc/passwd", "/mounted"},
	} {
		if out := execScript(t, c, "for b in ln mv rm mkfifo; do busybox ln -sf busybox /bin/$b; done; "+s.change); out != "" {
			t.Fatalf("%s: %s", s.change, out)
		}
		if got := homeOf(t, c, 1000); got != s.want {
			t.Errorf("after %s: %q, want %q", s.change, got, s.want)
		}
	}
}

// TestHomeThatIsSilent: a file system that never answers does not keep an exec from starting.
func TestHomeThatIsSilent(t *testing.T) {
	with(t, func(s *config.Testing) { s.HomeDeadline = 200 * time.Millisecond })
	next, w := lines(t)
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: insideBundle(t, "home silence", nil), Stdio: Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := next(); s != "silent" {
		t.Fatal(s)
	}
	if got := c.homes.Now(c.init, 1000); got != "/" { // a shell would wait for its own files there
		t.Errorf("by the silent file system: %q", got)
	}
}
