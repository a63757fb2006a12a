// SPDX-License-Identifier: Apache-2.0

package kill_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/cgroup"
	"sysbox/runtime/kill"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// TestStuckInFUSE: a container whose processes wait for a file system that they serve
// themselves, and that is mounted nowhere any more, can be deleted; nobody else's file
// system is harmed.
func TestStuckInFUSE(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]testcontainer.Function{"mounted": fuseStuckInside, "detached": fuseStuckDetachedInside} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testcontainer.NewPod(t)
			r, ready, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: f.Bundle(t, nil), Stdio: runtime.Stdio{Stdout: ready}})
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
	t.Parallel()
	next, w := testcontainer.Lines(t)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: fuseFlushInside.Bundle(t, nil), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
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
		pids, err := c.Cgroup().Pids()
		if err != nil || time.Now().After(deadline) {
			t.Fatal(pids, err)
		}
		if len(pids) == 0 {
			break
		}
	}
	views := map[string]*cgroup.Cgroup{"the host's": c.Cgroup()}
	state := c.Cgroup().State()
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
	if kill.NewWatch(kill.Target{Cgroup: c.Cgroup()}, c.Init().Done()).Over() {
		t.Error("the container is over")
	}
	if err := c.Init().Signal(int(unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 137 {
		t.Errorf("exit status %d", exit.Status)
	}
}

// endLeader ends the leading thread of this process, as any thread can end: by goroutines each
// of which keeps the thread that it is on, until one is on that.
func endLeader() {
	goruntime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		go endLeader()
		select {}
	}
	_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
}

var fuseFlushInside = testcontainer.Inside("fuse flush", func() error {
	if _, err := testcontainer.NewSilence("/root/f"); err != nil {
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
})

// stuck has processes wait for a file system that this one serves, mounted or not.
func stuck(detach bool) func() error {
	return func() error {
		serve, err := testcontainer.Swallow("/root/f")
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

var (
	fuseStuckInside         = testcontainer.Inside("fuse stuck", stuck(false))
	fuseStuckDetachedInside = testcontainer.Inside("fuse stuck detached", stuck(true))
)
