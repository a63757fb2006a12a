// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// TestUpgrade: containerd 1.7 is replaced by the newest under a container that runs, which
// is served as before.
func TestUpgrade(t *testing.T) {
	if why := skipped(); why != "" {
		t.Skip(why)
	}
	archive, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	c, err := harness.Start(context.Background(), peers.OldStart)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	h := &host{Containerd: c}
	if h.busybox, err = c.Load(context.Background(), archive); err != nil {
		t.Fatal(err)
	}
	h.watch(t)
	task, _ := h.sleeper(t)
	if err := c.Upgrade(background(t), peers.Newest); err != nil {
		t.Fatal(err)
	}
	if h.busybox, err = c.Client.GetImage(background(t), h.busybox.Name()); err != nil {
		t.Fatal(err)
	}
	again, exit := h.found(t, task.ID())
	if again.Pid() != task.Pid() {
		t.Errorf("pid %d, was %d", again.Pid(), task.Pid())
	}
	if out, status := h.exec(t, again, nil, "echo", "still here"); out != "still here\n" || status != 0 {
		t.Errorf("exec: %q, %d", out, status)
	}
	if status := kill(t, again, exit, syscall.SIGKILL); status != 137 {
		t.Errorf("exit status %d", status)
	}
	if out, status := h.run(t, "echo new"); out != "new\n" || status != 0 {
		t.Errorf("a new container: %q, %d", out, status)
	}
}

// found is a container's task as a client finds it that comes anew.
func (h *host) found(t *testing.T, id string) (containerd.Task, <-chan containerd.ExitStatus) {
	t.Helper()
	ctx := background(t)
	c, err := h.Client.LoadContainer(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	task, err := c.Task(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	exit, err := task.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return task, exit
}

// TestCrashAmid: containerd is killed in the midst of each call; when it is back, what
// there is can be removed, and nothing stays.
func TestCrashAmid(t *testing.T) {
	created := func(t *testing.T, h *host) containerd.Task {
		c := h.container(t, h.busybox, oci.WithProcessArgs("sleep", "1000"))
		task, err := c.NewTask(background(t), cio.NullIO)
		if err != nil {
			t.Fatal(err)
		}
		return task
	}
	running := func(t *testing.T, h *host) containerd.Task {
		task, _ := h.sleeper(t)
		return task
	}
	for _, x := range []struct {
		name string
		make func(t *testing.T, h *host) containerd.Task
		call func(ctx context.Context, task containerd.Task)
	}{
		{"start", created, func(ctx context.Context, task containerd.Task) { _ = task.Start(ctx) }},
		{"exec", running, func(ctx context.Context, task containerd.Task) {
			p, err := task.Exec(ctx, "x", &specs.Process{Args: []string{"sleep", "1000"}, Cwd: "/", Env: []string{"PATH=/bin"}}, cio.NullIO)
			if err == nil {
				_ = p.Start(ctx)
			}
		}},
		{"delete", running, func(ctx context.Context, task containerd.Task) { _, _ = task.Delete(ctx, containerd.WithProcessKill) }},
	} {
		for i, after := range []time.Duration{5 * time.Millisecond, 30 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s %d", x.name, i), func(t *testing.T) {
				both(t, func(t *testing.T, h *host) {
					task := x.make(t, h)
					h.crashAmid(t, after, func(ctx context.Context) { x.call(ctx, task) })
				})
			})
		}
	}
	for i, after := range []time.Duration{10 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond} {
		t.Run(fmt.Sprintf("create %d", i), func(t *testing.T) {
			both(t, func(t *testing.T, h *host) {
				c := h.container(t, h.busybox, oci.WithProcessArgs("sleep", "1000"))
				h.crashAmid(t, after, func(ctx context.Context) { _, _ = c.NewTask(ctx, cio.NullIO) })
			})
		})
	}
}

// crashAmid kills containerd a while after a call has begun.
func (h *host) crashAmid(t *testing.T, after time.Duration, call func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(background(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		call(ctx)
	}()
	time.Sleep(after)
	h.Kill()
	cancel()
	<-done
	h.resume(t)
}

// TestFullState: a state folder without room refuses a container with its name, and
// serves again when there is room.
func TestFullState(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		if err := os.MkdirAll(h.StateDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", h.StateDir(), "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(h.StateDir(), unix.MNT_DETACH)
		filler := filepath.Join(h.StateDir(), "filler")
		_ = os.WriteFile(filler, make([]byte, 1<<20), 0o600) // as far as it goes
		c := h.container(t, h.busybox, oci.WithProcessArgs("true"))
		_, err := c.NewTask(background(t), cio.NullIO)
		if err == nil || !strings.Contains(err.Error(), h.StateDir()) || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("error %v", err)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		if out, status := h.run(t, "echo works"); out != "works\n" || status != 0 {
			t.Errorf("with room again: %q, %d", out, status)
		}
	})
}

// TestNoFilesLeft: a shim that may open no more files says so, and serves again when it may.
func TestNoFilesLeft(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		task, _ := h.sleeper(t)
		h.exec(t, task, nil, "true")
		shim := h.Shims()[0]
		var was unix.Rlimit
		if err := unix.Prlimit(shim, unix.RLIMIT_NOFILE, nil, &was); err != nil {
			t.Fatal(err)
		}
		for tries := 1; ; tries++ {
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", shim))
			if err != nil {
				t.Fatal(err)
			}
			few := unix.Rlimit{Cur: uint64(len(open)) + 2, Max: was.Max}
			if err := unix.Prlimit(shim, unix.RLIMIT_NOFILE, &few, nil); err != nil {
				t.Fatal(err)
			}
			out, status := h.exec(t, task, nil, "true")
			if status == 0 && tries < 10 {
				continue // among those that were counted were some of the exec before
			}
			if status == 0 || !strings.Contains(out, "too many open files") {
				t.Errorf("without files: %d, %q", status, out)
			}
			break
		}
		if err := unix.Prlimit(shim, unix.RLIMIT_NOFILE, &was, nil); err != nil {
			t.Fatal(err)
		}
		if out, status := h.exec(t, task, nil, "echo", "works"); out != "works\n" || status != 0 {
			t.Errorf("with files again: %q, %d", out, status)
		}
	})
}

// TestExecWhileFrozen: a container that is paused while execs start: each starts and ends,
// or is refused, and none stays behind.
func TestExecWhileFrozen(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		task, exit := h.sleeper(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 8 {
				if task.Pause(context.WithoutCancel(background(t))) == nil {
					time.Sleep(20 * time.Millisecond)
					_ = task.Resume(context.WithoutCancel(background(t)))
				}
			}
		}()
		started := 0
		for {
			out, status := h.exec(t, task, nil, "true")
			switch {
			case status == 0:
				started++
			case status != 255 || !strings.Contains(out, "paused"):
				t.Errorf("exit status %d: %s", status, out)
			}
			select {
			case <-done:
			default:
				continue
			}
			break
		}
		if out, status := h.exec(t, task, nil, "echo", "works"); out != "works\n" || status != 0 {
			t.Errorf("afterwards: %q, %d; %d had started", out, status, started)
		}
		if status := kill(t, task, exit, syscall.SIGKILL); status != 137 {
			t.Errorf("exit status %d", status)
		}
	})
}
