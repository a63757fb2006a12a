// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"

	"sysbox/tests/leak"
	"sysbox/tests/pace"
)

// killShim ends the only shim there is.
func (h *host) killShim(t *testing.T) {
	t.Helper()
	shims := h.Shims()
	if len(shims) != 1 {
		t.Fatalf("shims %v, want one", shims)
	}
	if err := syscall.Kill(shims[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// gone waits until a process has ended.
func gone(t *testing.T, pid uint32) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second * patience()); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if errors.Is(syscall.Kill(int(pid), 0), syscall.ESRCH) {
			return
		}
	}
	t.Errorf("process %d lives on", pid)
}

// TestKilledShimInEveryState: a container whose shim is killed ends, and
// containerd's clean-up leaves nothing of it, whatever it was doing.
func TestKilledShimInEveryState(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, h *host) containerd.Task
	}{
		{"created", func(t *testing.T, h *host) containerd.Task {
			c := h.container(t, h.busybox, oci.WithProcessArgs("sleep", "1000"))
			task, err := c.NewTask(background(t), cio.NullIO)
			if err != nil {
				t.Fatal(err)
			}
			return task
		}},
		{"paused", func(t *testing.T, h *host) containerd.Task {
			task, _ := h.sleeper(t)
			if err := task.Pause(background(t)); err != nil {
				t.Fatal(err)
			}
			return task
		}},
		{"with an exec and children", func(t *testing.T, h *host) containerd.Task {
			task, _ := h.sleeper(t)
			if out, status := h.exec(t, task, nil, "sh", "-c", "exec >/dev/null 2>&1; setsid sleep 1000 & unshare -m sleep 1000 & sleep 0.1"); status != 0 {
				t.Fatal(out)
			}
			h.background(t, task, "sleep", "1000")
			return task
		}},
		{"with cgroups and mounts of its own", func(t *testing.T, h *host) containerd.Task {
			task, _ := h.sleeper(t)
			if out, status := h.exec(t, task, nil, "sh", "-c", file("faults-cgroups-and-mounts.sh")); status != 0 {
				t.Fatal(out)
			}
			return task
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, h *host) {
				task := c.make(t, h)
				h.killShim(t)
				gone(t, task.Pid())
			})
		})
	}
}

// TestDeleteTwice: without containerd the delete command alone removes what a
// killed shim left, and does not mind being called again.
func TestDeleteTwice(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		before := h.snapshot(t)
		task, _ := h.sleeper(t)
		h.Kill()
		h.killShim(t)
		for range 2 {
			if err := h.Delete(background(t), task.ID()); err != nil {
				t.Error(err)
			}
		}
		gone(t, task.Pid())
		after, err := leak.Take(h.leaks())
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"process", "namespace", "cgroup"} {
			for x := range after[kind] {
				if !before[kind][x] && !strings.Contains(x, "containerd") {
					t.Errorf("after the delete command a %s is left: %s", kind, x)
				}
			}
		}
		h.resume(t)
	})
}

// TestEndWhileAway: a container that ends while containerd is away does not
// stand in the way of a new start. containerd itself removes a shim that has no
// processes when it is back.
func TestEndWhileAway(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		task, _ := h.sleeper(t)
		h.Kill()
		if err := syscall.Kill(int(task.Pid()), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		gone(t, task.Pid())
		h.resume(t)
		c, err := h.Client.LoadContainer(background(t), task.ID())
		if err != nil {
			t.Fatal(err)
		}
		again, _ := h.task(t, c, cio.NullIO)
		if out, status := h.exec(t, again, nil, "echo", "anew"); out != "anew\n" || status != 0 {
			t.Errorf("exit status %d, output %q", status, out)
		}
	})
}

// resume starts containerd again after its Kill.
func (h *host) resume(t *testing.T) {
	t.Helper()
	if err := h.Resume(background(t)); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.busybox, err = h.Client.GetImage(background(t), h.busybox.Name()); err != nil {
		t.Fatal(err)
	}
}

// TestOneByOne: a shim that has served many execs has open what it had before.
func TestOneByOne(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		task, _ := h.sleeper(t)
		h.exec(t, task, nil, "true") // what is made once
		o := leak.Options{Open: h.Shims()}
		before, err := leak.Take(o)
		if err != nil {
			t.Fatal(err)
		}
		for range pace.Rounds(t, 30, 8) {
			if out, status := h.exec(t, task, nil, "true"); status != 0 {
				t.Fatalf("exit status %d: %s", status, out)
			}
			if out, _ := h.exec(t, task, nil, "nonesuch"); !strings.Contains(out, "nonesuch") {
				t.Fatalf("a command that there is not: %q", out)
			}
		}
		found, err := leak.Compare(before, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range found {
			if strings.Contains(s, "descriptor") || strings.Contains(s, "mount") || strings.Contains(s, "namespace") {
				t.Error(s)
			}
		}
	})
}

// TestUnwritableState is about a state folder that cannot be written: the container
// is refused, by a sentence with the folder's name, and nothing is left.
func TestUnwritableState(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		if err := os.MkdirAll(h.StateDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount(h.StateDir(), h.StateDir(), "", syscall.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer syscall.Unmount(h.StateDir(), syscall.MNT_DETACH)
		if err := syscall.Mount("", h.StateDir(), "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		c := h.container(t, h.busybox, oci.WithProcessArgs("true"))
		_, err := c.NewTask(background(t), cio.NullIO)
		if err == nil || !strings.Contains(err.Error(), h.StateDir()) || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("error %v", err)
		}
	})
}
