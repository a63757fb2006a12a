// SPDX-License-Identifier: Apache-2.0

package task

import (
	"errors"
	"testing"

	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
)

func TestOrderOfALife(t *testing.T) {
	r := newRig(t)
	r.running("box", "e")
	r.pod.containers["box"].execs[0].end(3)
	if w := r.wait("box", "e"); w.ExitStatus != 3 || w.ExitedAt == nil {
		t.Errorf("wait for the exec gave %v", w)
	}
	r.delete("box", "e")
	r.pod.containers["box"].init.end(7)
	if w := r.wait("box", ""); w.ExitStatus != 7 {
		t.Errorf("wait gave %v", w)
	}
	if d := r.delete("box", ""); d.ExitStatus != 7 || d.Pid != 1000 || d.ExitedAt == nil {
		t.Errorf("delete gave %v", d)
	}
	r.want("create box", "start box", "exec-added e", "exec-started e", "exit e", "exit box", "delete box")
	if !r.pod.containers["box"].deleted {
		t.Error("the runtime's container was not deleted")
	}
}

// A process may end before the call that started it has returned; who listens
// must hear of the start first.
func TestEarlyExitIsHeldBack(t *testing.T) {
	r := newRig(t)
	r.pod.duringRun = func(p *fakeProcess) { p.end(1) }
	for range 100 {
		r.create("box")
		r.start("box", "")
		r.wait("box", "")
		r.delete("box", "")
		r.want("create box", "start box", "exit box", "delete box")
		r.rec.got = nil
	}
	r.pod.duringRun = nil
	r.create("box")
	r.start("box", "")
	r.pod.duringRun = func(p *fakeProcess) { p.end(1) }
	r.rec.got = nil
	for range 100 {
		r.exec("box", "e")
		r.start("box", "e")
		r.wait("box", "e")
		r.delete("box", "e")
		r.want("exec-added e", "exec-started e", "exit e")
		r.rec.got = nil
	}
}

// With init's end the kernel ends the execs; which of them the shim sees first
// is chance.
func TestInitExitIsLast(t *testing.T) {
	r := newRig(t)
	r.running("box", "e")
	b := r.pod.containers["box"]
	b.init.end(0)
	for { // until the shim knows of init's end
		c, _ := r.find("box")
		c.mu.Lock()
		over := c.initExited
		c.mu.Unlock()
		if over {
			break
		}
	}
	// No exec may start any more.
	_, err := r.Exec(t.Context(), &api.ExecProcessRequest{ID: "box", ExecID: "late"})
	wantCode(t, err, errdefs.ErrInvalidArgument, "exec without a spec")
	b.execs[0].end(137)
	r.wait("box", "")
	r.want("create box", "start box", "exec-added e", "exec-started e", "exit e", "exit box")
}

// Without a pid namespace of its own the rest of the container outlives init.
func TestRestIsKilled(t *testing.T) {
	r := newRig(t)
	r.pod.ownPIDs = false
	r.running("box", "e")
	r.pod.containers["box"].init.end(0)
	if w := r.wait("box", ""); w.ExitStatus != 0 {
		t.Errorf("init's status is %d", w.ExitStatus)
	}
	r.want("create box", "start box", "exec-added e", "exec-started e", "exit e", "exit box")
}

// The kernel's word of an OOM kill comes before the exit, after it, or never:
// it's told once, and first.
func TestOOMBeforeExit(t *testing.T) {
	for _, when := range []string{"before", "after", "never"} {
		t.Run(when, func(t *testing.T) {
			r := newRig(t)
			r.create("box")
			r.start("box", "")
			b := r.pod.containers["box"]
			b.oomKills = 1
			if when == "before" {
				b.oom()
			}
			b.init.end(137)
			r.wait("box", "")
			if when == "after" {
				b.oom()
			}
			s, err := r.Stats(t.Context(), &api.StatsRequest{ID: "box"})
			if err != nil || s.Stats.TypeUrl != "io.containerd.cgroups.v1.Metrics" {
				t.Errorf("statistics between exit and delete: %v, %v", s, err)
			}
			r.want("create box", "start box", "oom box", "exit box")
		})
	}
}

func TestDeleteOfCreated(t *testing.T) {
	r := newRig(t)
	r.create("box")
	r.exec("box", "e") // never started
	r.delete("box", "")
	r.want("create box", "exec-added e", "exit box", "delete box")
	_, err := r.State(t.Context(), &api.StateRequest{ID: "box"})
	wantCode(t, err, errdefs.ErrNotFound, "state after delete")
}

func TestFailedStart(t *testing.T) {
	r := newRig(t)
	r.pod.startErr = errors.New("exec /nothing: no such file")
	r.create("box")
	if _, err := r.Start(t.Context(), &api.StartRequest{ID: "box"}); err == nil {
		t.Fatal("start succeeded")
	}
	r.wait("box", "")
	r.delete("box", "")
	r.want("create box", "exit box", "delete box")

	r.pod.startErr = nil
	r.create("box")
	r.start("box", "")
	r.pod.startErr = errors.New("exec /nothing: no such file")
	r.exec("box", "e")
	if _, err := r.Start(t.Context(), &api.StartRequest{ID: "box", ExecID: "e"}); err == nil {
		t.Fatal("start of the exec succeeded")
	}
	if w := r.wait("box", "e"); w.ExitStatus != statusNotStarted {
		t.Errorf("status is %d", w.ExitStatus)
	}
	r.delete("box", "e")
	// Init's exit does not wait for an exec that never ran.
	r.pod.containers["box"].init.end(0)
	r.wait("box", "")
}
