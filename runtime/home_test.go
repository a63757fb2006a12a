package runtime

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func init() {
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

// TestHomeThatIsSilent: neither a file system that never answers nor readings that are
// stuck keep an exec from starting.
func TestHomeThatIsSilent(t *testing.T) {
	old := homeDeadline
	homeDeadline = 200 * time.Millisecond
	defer func() { homeDeadline = old }()
	next, w := lines(t)
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: insideBundle(t, "home silence", nil), Stdio: Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := next(); s != "silent" {
		t.Fatal(s)
	}
	if got := c.homeNow(1000); got != "/" { // a shell would wait for its own files there
		t.Errorf("by the silent file system: %q", got)
	}
	c = started(t, nil)
	for range homeReaders {
		c.reading <- struct{}{}
	}
	if got := homeOf(t, c, 1000); got != "/" {
		t.Errorf("while all readers are stuck: %q", got)
	}
	<-c.reading
	if got := homeOf(t, c, 1000); got != "/home/user" {
		t.Errorf("when one is free: %q", got)
	}
}
