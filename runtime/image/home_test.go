// SPDX-License-Identifier: Apache-2.0

package image_test

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

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/tests/testcontainer"
)

// An overlay lets this process's threads in, which a FUSE file system does not.
var homeOverlayInside = testcontainer.Inside("home overlay", func() error {
	s, err := testcontainer.NewSilence("/root/f")
	if err != nil {
		return err
	}
	const low = "/root/low"
	if err := errors.Join(os.Mkdir(low, 0o755), os.Symlink("silent", low+"/passwd"), unix.Mount("o", "/etc", "overlay", 0, "lowerdir=/root/f:"+low)); err != nil {
		return err
	}
	fmt.Println("silent")
	<-s.Asked
	fmt.Println("asked")
	select {}
})

var homeSilenceInside = testcontainer.Inside("home silence", func() error {
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
})

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
	next, w := testcontainer.Lines(t)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: homeOverlayInside.Bundle(t, nil), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := next(); s != "silent" {
		t.Fatal(s)
	}
	home := make(chan string)
	go func() {
		got, err := homeOf(t, c, 1000)
		home <- fmt.Sprint(got, err)
	}()
	if s := next(); s != "asked" {
		t.Fatal(s)
	}
	if threads := waiting(t); len(threads) > 0 {
		t.Errorf("threads wait: %v", threads)
	}
	if got := <-home; got != "/<nil>" {
		t.Errorf("by the silent file system: %q", got)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// homeOf is what an exec of a user has as HOME. Its program asks for no file of the container's.
func homeOf(t *testing.T, c *testcontainer.Container, uid uint32) (string, error) {
	p, err := c.Exec(t.Context(), runtime.ExecRequest{
		Process: &specs.Process{Args: []string{"/bin/sleep", "1000"}, Cwd: "/", User: specs.User{UID: uid, GID: uid}},
	})
	if err != nil {
		return "", err
	}
	defer p.Signal(int(unix.SIGKILL))
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Pid()))
	if err != nil {
		return "", err
	}
	for v := range strings.SplitSeq(string(environ), "\x00") {
		if home, ok := strings.CutPrefix(v, "HOME="); ok {
			return home, nil
		}
	}
	return "", fmt.Errorf("no HOME in %q", environ)
}

// TestHomeOfExec: an exec lives where the container's /etc/passwd says now, whatever
// the container has made of that.
func TestHomeOfExec(t *testing.T) {
	t.Parallel()
	c := testcontainer.Started(t, nil)
	if got, err := homeOf(t, c, 1000); err != nil || got != "/home/user" {
		t.Errorf("by the image: %q, %v", got, err)
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
		if out := c.Script(t, "for b in ln mv rm mkfifo; do busybox ln -sf busybox /bin/$b; done; "+s.change); out != "" {
			t.Fatalf("%s: %s", s.change, out)
		}
		if got, err := homeOf(t, c, 1000); err != nil || got != s.want {
			t.Errorf("after %s: %q, %v, want %q", s.change, got, err, s.want)
		}
	}
}

// TestHomeThatIsSilent: a file system that never answers does not keep an exec from starting.
func TestHomeThatIsSilent(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t, func(c *config.Config) { c.Testing.HomeDeadline = 200 * time.Millisecond })
	next, w := testcontainer.Lines(t)
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: homeSilenceInside.Bundle(t, nil), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := next(); s != "silent" {
		t.Fatal(s)
	}
	if got, err := homeOf(t, c, 1000); err != nil || got != "/" {
		t.Errorf("by the silent file system: %q, %v", got, err)
	}
}
