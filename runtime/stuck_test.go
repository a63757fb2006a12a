package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/tests/pace"
)

// TestStuckInFUSE: a container whose processes wait for a file system that they serve
// themselves, and that is mounted nowhere any more, can be deleted; nobody else's file
// system is harmed.
func TestStuckInFUSE(t *testing.T) {
	for _, routine := range []string{"fuse stuck", "fuse stuck detached"} {
		t.Run(routine, func(t *testing.T) {
			p := testPod(t, "pod")
			r, ready, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			c := create(t, p, CreateRequest{ID: "c1", Bundle: insideBundle(t, routine, nil), Stdio: Stdio{Stdout: ready}})
			err = c.Start(t.Context())
			ready.Close()
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			if n, _ := r.Read(buf); string(buf[:n]) != "stuck\n" {
				t.Fatalf("the container says %q", buf[:n])
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second*pace.Patience())
			defer cancel()
			if err := c.Delete(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStuckAtFlush: a process that waits, as it ends after its leading thread, for a server
// that has ended with it is in no list of processes of version 2; the container is not over, by
// either version, and ends when it is killed, without Delete.
func TestStuckAtFlush(t *testing.T) {
	next, w := lines(t)
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: insideBundle(t, "fuse flush", nil), Stdio: Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := next(); s != "open" {
		t.Fatal(s)
	}
	if err := unix.Kill(c.Init().Pid(), unix.SIGKILL); err != nil { // not by the API
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute * pace.Patience()); ; time.Sleep(10 * time.Millisecond) {
		pids, err := c.cgroup.Pids()
		if err != nil || time.Now().After(deadline) {
			t.Fatal(pids, err)
		}
		if len(pids) == 0 {
			break
		}
	}
	views := map[string]*cgroup.Cgroup{"the host's": c.cgroup}
	state := c.cgroup.State()
	if v1 := state.Layout.V1; len(v1) > 0 && state.Layout.Unified != "" {
		state.Layout = &cgroup.Layout{V1: v1}
		alone, err := cgroup.Load(state)
		if err != nil {
			t.Fatal(err)
		}
		views["version 1"] = alone
	}
	for name, cg := range views {
		left, err := cg.Populated()
		threads, err2 := cg.Threads()
		if err := errors.Join(err, err2); err != nil || !left || len(threads) == 0 {
			t.Errorf("%s: populated %t, threads %v, %v", name, left, threads, err)
		}
	}
	if c.watch.Over() {
		t.Error("the container is over")
	}
	if err := c.Init().Signal(int(unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, c.Init()); exit.Status != 137 {
		t.Errorf("exit status %d", exit.Status)
	}
}

// endLeader ends the leading thread of this process, as any thread can end: by goroutines each
// of which keeps the thread that it is on, until one is on that.
func endLeader() {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		go endLeader()
		select {}
	}
	_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
}

func init() {
	routines["fuse flush"] = func() error {
		if _, err := newSilence("/root/f"); err != nil {
			return err
		}
		if _, err := unix.Open("/root/f/file", unix.O_RDONLY, 0); err != nil {
			return err
		}
		go endLeader()
		for {
			stat, err := os.ReadFile("/proc/self/stat")
			if err != nil {
				return err
			}
			if strings.Contains(string(stat), ") Z ") {
				break
			}
			time.Sleep(time.Millisecond)
		}
		fmt.Println("open")
		select {}
	}
	stuck := func(detach bool) func() error {
		return func() error {
			serve, err := swallow("/root/f")
			if err != nil {
				return err
			}
			dir, err := unix.Open("/root/f", unix.O_PATH, 0)
			if err != nil {
				return err
			}
			if detach {
				if err := unix.Unmount("/root/f", unix.MNT_DETACH); err != nil {
					return err
				}
			}
			taken := make(chan bool, 100)
			go serve(func() { taken <- true })
			for i := range 3 {
				go unix.Mkdirat(dir, fmt.Sprint(i), 0o755)
			}
			<-taken // the others wait for the folder, or as this one
			fmt.Println("stuck")
			select {}
		}
	}
	routines["fuse stuck"], routines["fuse stuck detached"] = stuck(false), stuck(true)
}
