// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"
)

// again connects to a container's shim as a caller does that was restarted: by the address
// that it has kept, or that the shim has left in the bundle.
func (b *box) again() {
	b.r.t.Helper()
	b.s.client.Close()
	address := b.s.address
	if b.r.form != newForm {
		text, err := os.ReadFile(filepath.Join(b.r.bundleDir(b.id), "address"))
		b.r.must(err)
		address = string(text)
	}
	s, err := b.r.dial(address)
	b.r.must(err)
	b.s = s
}

// awayCases are about a containerd that goes and comes back.
var awayCases = []testCase{
	{name: "away: a caller comes back", run: func(r *rig) {
		b := r.sleeper("box")
		b.exec("e", streams{}, sleep...)
		pid := b.s.pid
		b.again()
		r.see("same shim", "%v", b.s.pid == pid)
		r.see("connect", "%s", b.connect())
		r.see("pids", "%v", strings.Count(b.pids(), ",") == 1)
		r.see("state", "%s, %s", b.state(""), b.state("e"))
		r.see("kill", "%s", b.kill("e", 9))
		r.see("wait", "%s", b.wait("e"))
		r.see("an exec of the same name", "%s", b.add("e", streams{}, "true"))
		r.see("delete", "%s", b.delete("e"))
	}},
	{name: "away: processes end meanwhile", run: func(r *rig) {
		b := r.sleeper("box")
		b.exec("e", streams{}, sleep...)
		b.s.client.Close()
		r.must(unix.Kill(int(b.pid), unix.SIGKILL))
		r.see("ended", "%v", eventually(func() bool { return r.inCgroup("box") == 0 }))
		b.again()
		r.see("wait", "%s, %s", b.wait("e"), b.wait(""))
		r.see("state", "%s, %s", b.state("e"), b.state(""))
		r.see("connect", "%s", b.connect())
		r.see("pids", "%s", b.pids())
		r.see("delete", "%s, %s", b.delete("e"), b.delete(""))
	}},
	{name: "away: events wait", only: []form{newForm, oldForm}, run: func(r *rig) {
		b := r.sleeper("box")
		b.exec("e", streams{}, sleep...)
		r.events.await(1, func(e event) bool { return e.topic == "exec-started" }, patience)
		r.events.leave()
		b.ok(b.kill("", 9))
		r.see("wait", "%s, %s", b.wait("e"), b.wait(""))
		r.see("told meanwhile", "%d", r.count("exit"))
		r.must(r.events.serve())
		r.see("told later", "%v", r.events.await(2, func(e event) bool { return e.topic == "exit" }, patience))
		if order := r.inOrder("box"); r.ours() && order != "ok" {
			r.t.Errorf("events are not in order (%s): %s", order, r.told(nil))
		}
		r.see("delete", "%s", b.delete(""))
		r.see("told then", "%v", r.events.await(1, func(e event) bool { return e.topic == "delete" }, patience))
	}},
	{name: "away: nobody ever comes for the events", run: func(r *rig) {
		b := r.sleeper("box")
		r.events.leave()
		r.events.path = ""
		b.ok(b.kill("", 9))
		r.see("wait", "%s", b.wait(""))
		r.see("delete", "%s", b.delete(""))
		r.see("shutdown", "%s", b.shutdown())
		b.s.client.Close()
		r.see("shim has left", "%v", b.s.gone(patience))
	}},
	{name: "away: two callers", run: func(r *rig) {
		b := r.sleeper("box")
		other := *b
		s, err := r.dial(b.s.address)
		r.must(err)
		other.s = s
		waited := make(chan string)
		go func() { waited <- other.wait("") }()
		b.exec("e", streams{}, sleep...)
		r.see("the other sees", "%s", other.state("e"))
		r.see("the other kills", "%s", other.kill("", 9))
		r.see("wait", "%s, %s", b.wait(""), <-waited)
	}},
	{name: "away: a caller leaves during Create", run: func(r *rig) { r.leaveDuring(justStarted, func(b *box) { b.create(streams{}) }, 4) }},
	{name: "away: a caller leaves during Start", run: func(r *rig) { r.leaveDuring(notStarted, func(b *box) { b.start("") }, 3) }},
	{name: "away: a caller leaves during Delete", run: func(r *rig) { r.leaveDuring(hasEnded, func(b *box) { b.delete("") }, 3) }},
}

// leaveDuring ends the connection during a call of ours, and after one of theirs. A caller
// that comes back finds a container that can be removed, or none.
func (r *rig) leaveDuring(make func(*rig, string) *box, call func(*box), points int) {
	r.t.Helper()
	b := make(r, "box")
	begin := time.Now()
	call(b)
	took := time.Since(begin)
	removed := []string{r.comeBack(b)}
	if !r.ours() {
		points = 0
	}
	random := rand.New(rand.NewPCG(2, uint64(points)))
	for i := range points {
		b := make(r, "box"+strings.Repeat("x", i+1))
		called := startCall(func() { call(b) })
		at := (float64(i) + random.Float64()) / float64(points)
		time.Sleep(time.Duration(at * float64(took)))
		b.s.client.Close()
		<-called
		removed = append(removed, r.comeBack(b))
	}
	r.see("removed", "%s", set(removed))
}

func startCall(f func()) chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

func (r *rig) comeBack(b *box) string {
	r.t.Helper()
	b.again()
	removed := eventually(func() bool {
		// A call that its caller has left may be under way still: then the shim stays.
		b.kill("", 9)
		b.delete("")
		ctx, cancel := background()
		defer cancel()
		_, _ = b.s.task.Shutdown(ctx, &taskapi.ShutdownRequest{ID: b.id})
		b.s.client.Close()
		if b.s.gone(time.Second) {
			return true
		}
		s, err := r.dial(b.s.address)
		if err != nil { // it has left just now
			return b.s.gone(patience)
		}
		b.s = s
		return false
	})
	b.over, b.deleted = true, false
	if !removed {
		return "no"
	}
	return "yes"
}
