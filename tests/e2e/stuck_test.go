// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/leak"
	"sysbox/tests/peers"
	"sysbox/tests/testhost"
)

// stuck makes processes that SIGKILL does not end.
const stuck = "tests/e2e/testdata/stuck/stuck.go"

// asNobody are what an ordinary user's container has no more than: it is root in a user
// namespace of its own.
var asNobody = oci.Compose(oci.WithUIDGID(1000, 1000), oci.WithCapabilities(nil), oci.WithNoNewPrivileges)

// says waits until a process has written a line.
func says(t *testing.T, out *output, line string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute * patience()); ; time.Sleep(20 * time.Millisecond) {
		if text := out.String(); strings.Contains(text, line+"\n") {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("%q was not said; what was: %q", line, text)
		}
	}
}

// stuckIn runs a container until it is stuck.
func (h *host) stuckIn(t *testing.T, args []string, opts ...oci.SpecOpts) (containerd.Task, <-chan containerd.ExitStatus) {
	t.Helper()
	dir, err := peers.Program(stuck)
	if err != nil {
		t.Fatal(err)
	}
	var out output
	c := h.container(t, h.busybox, append([]oci.SpecOpts{oci.WithProcessArgs(args...), bind(dir, "/stuck", "ro")}, opts...)...)
	task, exit := h.task(t, c, out.creator())
	says(t, &out, "ready")
	return task, exit
}

// TestStuckKilled: a container whose processes wait for a FUSE file system that they serve
// themselves, and so are not ended by SIGKILL, ends when it is killed, before anybody calls
// Delete.
func TestStuckKilled(t *testing.T) {
	for _, c := range []struct {
		name string
		args string
		opt  oci.SpecOpts
	}{
		{"at a flush", "/stuck/stuck flush /tmp/f", nil},
		{"at a read", "/stuck/stuck read /tmp/f", nil},
		{"unmounted", "/stuck/stuck hidden /tmp/f", nil},
		{"chrooted", "/stuck/stuck rooted /tmp/f", nil},
		{"not init", "/stuck/stuck child flush /tmp/f; sleep 1000", nil},
		{"a user without capabilities", "exec unshare -Urm /stuck/stuck flush /var", asNobody},
		{"a user, not init", "unshare -Urm /stuck/stuck flush /var; sleep 1000", asNobody},
		{"a user, at a read", "exec unshare -Urm /stuck/stuck read /var", asNobody},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, h *host) {
				opts := []oci.SpecOpts{}
				if c.opt != nil {
					opts = append(opts, c.opt)
				}
				task, exit := h.stuckIn(t, []string{"sh", "-c", c.args}, opts...)
				if status := kill(t, task, exit, syscall.SIGKILL); status != 137 {
					t.Errorf("exit status %d", status)
				}
			})
		})
	}
}

// TestStuckEnds: however such a container is ended, it ends.
func TestStuckEnds(t *testing.T) {
	flush := []string{"/stuck/stuck", "flush", "/tmp/f"}
	for _, c := range []struct {
		name string
		end  func(t *testing.T, h *host)
	}{
		{"kill --all", func(t *testing.T, h *host) {
			task, exit := h.stuckIn(t, flush)
			kill(t, task, exit, syscall.SIGKILL, containerd.WithKillAll)
		}},
		{"ctr task kill and delete", func(t *testing.T, h *host) {
			task, exit := h.stuckIn(t, flush)
			for _, args := range [][]string{{"task", "kill", "-s", "9", task.ID()}, {"task", "delete", task.ID()}} {
				if args[1] == "delete" {
					wait(t, exit)
				}
				if out, err := h.Ctr(background(t), args...).CombinedOutput(); err != nil && !strings.Contains(string(out), "status") {
					t.Errorf("ctr %q: %v: %s", args, err, out)
				}
			}
		}},
		{"killed while paused", func(t *testing.T, h *host) {
			task, exit := h.stuckIn(t, flush)
			if err := task.Pause(background(t)); err != nil {
				t.Fatal(err)
			}
			kill(t, task, exit, syscall.SIGKILL)
		}},
		{"an exec", func(t *testing.T, h *host) {
			task, exit := h.sleeperWithStuck(t)
			h.stuckExec(t, task)
			kill(t, task, exit, syscall.SIGKILL)
		}},
		{"an exec, deleted", func(t *testing.T, h *host) {
			task, _ := h.sleeperWithStuck(t)
			h.stuckExec(t, task)
			if _, err := task.Delete(background(t), containerd.WithProcessKill); err != nil {
				t.Error(err)
			}
		}},
		{"in another's pid namespace", func(t *testing.T, h *host) {
			first, _ := h.sleeper(t)
			join := oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.PIDNamespace, Path: fmt.Sprintf("/proc/%d/ns/pid", first.Pid())})
			pod := oci.WithAnnotations(map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": first.ID()})
			task, exit := h.stuckIn(t, []string{"sh", "-c", "/stuck/stuck flush /tmp/f & sleep 1000"}, pod, join)
			kill(t, task, exit, syscall.SIGKILL)
			if _, err := task.Delete(background(t)); err != nil {
				t.Error(err)
			}
		}},
		{"with a file system that another one of its pod uses", func(t *testing.T, h *host) {
			first, _ := h.sleeperWithStuck(t)
			h.stuckExec(t, first)
			pod := oci.WithAnnotations(map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": first.ID()})
			task, exit := h.stuckIn(t, []string{"/stuck/stuck", "hidden", "/tmp/f"}, pod)
			kill(t, task, exit, syscall.SIGKILL)
			if out, status := h.exec(t, first, nil, "stat", "-c", "%s", "/tmp/f/x"); out != "4096\n" || status != 0 {
				t.Errorf("the other's: exit status %d, %s", status, out)
			}
		}},
		{"the shim is killed", func(t *testing.T, h *host) {
			task, _ := h.stuckIn(t, flush)
			h.killShim(t)
			gone(t, task.Pid())
		}},
		{"the delete command", func(t *testing.T, h *host) {
			task, _ := h.stuckIn(t, flush)
			before := h.Shims()
			h.Kill()
			h.killShim(t)
			ended(t, before)
			if err := h.Delete(background(t), task.ID()); err != nil {
				t.Error(err)
			}
			h.nothingOf(t, task)
			h.resume(t)
		}},
		{"the reclaim command", func(t *testing.T, h *host) {
			task, _ := h.stuckIn(t, flush)
			before := h.Shims()
			h.Kill()
			h.killShim(t)
			ended(t, before)
			if err := h.Reclaim(background(t)); err != nil {
				t.Error(err)
			}
			h.nothingOf(t, task)
			h.resume(t)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { both(t, c.end) })
	}
}

func (h *host) sleeperWithStuck(t *testing.T) (containerd.Task, <-chan containerd.ExitStatus) {
	t.Helper()
	dir, err := peers.Program(stuck)
	if err != nil {
		t.Fatal(err)
	}
	return h.sleeper(t, bind(dir, "/stuck", "ro"))
}

// stuckExec runs an exec until it is stuck.
func (h *host) stuckExec(t *testing.T, task containerd.Task) {
	t.Helper()
	var out output
	p := &specs.Process{Args: []string{"/stuck/stuck", "flush", "/tmp/f"}, Cwd: "/", Env: []string{"PATH=/bin"}}
	proc, err := task.Exec(background(t), fmt.Sprintf("x%d", count.Add(1)), p, out.creator())
	if err != nil {
		t.Fatal(err)
	}
	started(t, proc)
	says(t, &out, "ready")
}

// ended waits until processes have ended.
func ended(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		gone(t, uint32(pid))
	}
}

// nothingOf fails if there is a cgroup or a record of a container.
func (h *host) nothingOf(t *testing.T, task containerd.Task) {
	t.Helper()
	gone(t, task.Pid())
	now, err := leak.Take(h.leaks())
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"cgroup", "file"} {
		for x := range now[kind] {
			if strings.Contains(x, task.ID()) {
				t.Errorf("a %s is left: %s", kind, x)
			}
		}
	}
}

// TestStuckShim: a system call that the shim answers leads into a file system of the
// container's that a process of another pod serves, or does not any more: no thread of the
// shim waits for it, the container can be deleted, and the shim ends.
func TestStuckShim(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(t *testing.T, h *host, task containerd.Task, exit <-chan containerd.ExitStatus)
	}{
		{"delete", func(t *testing.T, _ *host, task containerd.Task, exit <-chan containerd.ExitStatus) {
			kill(t, task, exit, syscall.SIGKILL)
			if _, err := task.Delete(background(t)); err != nil {
				t.Error(err)
			}
		}},
		{"the shim is killed", func(t *testing.T, h *host, task containerd.Task, _ <-chan containerd.ExitStatus) {
			pid := h.shimOf(t, task)
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			ended(t, []int{pid})
			gone(t, task.Pid())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, h *host) {
				serving, volume := h.accomplice(t, "serve", "/shared/socket")
				task, exit := h.stuckIn(t, []string{"/stuck/stuck", "enter", "/shared/socket", "/f"}, volume)
				if threads := testhost.WaitingForFUSE(t, h.shimOf(t, task)); len(threads) > 0 {
					t.Errorf("threads of the shim wait: %v", threads)
				}
				c.end(t, h, task, exit)
				if err := serving.Kill(background(t), syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// accomplice runs a container that listens at /shared/socket; volume is what another one
// dials that by.
func (h *host) accomplice(t *testing.T, args ...string) (task containerd.Task, volume oci.SpecOpts) {
	t.Helper()
	shared := t.TempDir()
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	dir, err := peers.Program(stuck)
	if err != nil {
		t.Fatal(err)
	}
	volume = oci.Compose(oci.WithAnnotations(map[string]string{"io.sysbox.skip-uid-shift": "/shared"}), bind(shared, "/shared"))
	var heard output
	c := h.container(t, h.busybox, oci.WithProcessArgs(append([]string{"/stuck/stuck"}, args...)...), volume, bind(dir, "/stuck", "ro"))
	task, _ = h.task(t, c, heard.creator())
	says(t, &heard, "listening")
	return task, volume
}

// TestStuckInAnotherPods: who waits for a file system of another pod, of which it was handed
// a file, ends with that pod, and no file system of that pod is harmed before.
func TestStuckInAnotherPods(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		lender, volume := h.accomplice(t, "lend", "/shared/socket", "/f")
		task, exit := h.stuckIn(t, []string{"/stuck/stuck", "borrow", "/shared/socket"}, volume)
		if err := task.Kill(background(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// By then a connection of its own would have been aborted.
		select {
		case <-exit:
			t.Error("another pod's connection was aborted")
			return
		case <-time.After(5 * time.Second):
		}
		if err := lender.Kill(background(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if status := wait(t, exit); status != 137 {
			t.Errorf("exit status %d", status)
		}
	})
}

// shimOf is the pid of the shim of a container, which is its pod's first.
func (h *host) shimOf(t *testing.T, task containerd.Task) int {
	t.Helper()
	for _, pid := range h.Shims() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(b), "\x00"+task.ID()+"\x00") {
			return pid
		}
	}
	t.Fatalf("container %s has no shim", task.ID())
	return 0
}
