// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"slices"
	"strings"
	"sync"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
)

// together calls f n times at once and returns what it gave, sorted.
func together(n int, f func() string) []string {
	out := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { out[i] = f() })
	}
	wg.Wait()
	slices.Sort(out)
	return out
}

// raceCases are about Kill, Wait and Delete at the same time.
var raceCases = []testCase{
	{name: "many wait", run: func(r *rig) {
		b := r.created("box", "sh", "-c", "exit 6")
		var wg sync.WaitGroup
		var waited []string
		wg.Go(func() { waited = together(12, func() string { return b.wait("") }) })
		b.ok(b.start(""))
		wg.Wait()
		r.see("all", "%s", set(waited))
		r.see("after the end", "%s", b.wait(""))
		r.see("delete", "%s", b.delete(""))
		r.see("after the delete", "%s", b.wait(""))
	}},
	{name: "a waiter leaves", run: func(r *rig) {
		b := r.sleeper("box")
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan error)
		go func() {
			_, err := b.s.task.Wait(ctx, &taskapi.WaitRequest{ID: "box"})
			left <- err
		}()
		cancel()
		r.see("it", "%v", <-left == nil)
		r.see("state", "%s", b.state(""))
		b.ok(b.kill("", 9))
		r.see("another", "%s", b.wait(""))
	}},
	{name: "many kill", run: func(r *rig) {
		b := r.sleeper("box")
		b.exec("e", streams{}, sleep...)
		for _, exec := range []string{"e", ""} {
			outcomes := together(8, func() string { return b.kill(exec, 9) })
			name := "process \"" + exec + "\""
			r.see(name, "%v", slices.Contains(outcomes, "ok"))
			if r.ours() && slices.ContainsFunc(outcomes, func(s string) bool { return s != "ok" && s != "NotFound" }) {
				r.t.Errorf("kills of %s: %v; what has ended is NotFound", name, outcomes)
			}
		}
		r.see("wait", "%s, %s", b.wait("e"), b.wait(""))
	}},
	{name: "kill of what was not started", run: func(r *rig) {
		b := r.created("box", sleep...)
		r.see("kill", "%s", b.kill("", 9))
		r.see("wait", "%s", b.wait(""))
		r.see("state", "%s", b.state(""))
		r.see("start", "%v", b.start("") == "ok")
		r.see("delete", "%s", b.delete(""))
		b.s.end()
		r.see("events", "%s", r.told(nil))
	}},
	{name: "delete of what was not started", run: func(r *rig) {
		b := r.created("box", sleep...)
		out := b.delete("")
		r.see("delete", "%s", out)
		if b.over = out == "137"; !b.over {
			b.kill("", 9)
			b.wait("")
			b.delete("")
		}
		b.s.end()
		if order := r.inOrder("box"); r.ours() && order != "ok" {
			r.t.Errorf("events are not in order: %s; runc's shim may tell of the delete first", order)
		}
	}},
	{name: "start and kill at once", run: func(r *rig) {
		b := r.created("box", sleep...)
		var wg sync.WaitGroup
		wg.Go(func() { b.start("") })
		wg.Go(func() { b.kill("", 9) })
		r.see("wait", "%s", b.wait(""))
		wg.Wait()
		r.see("delete", "%s", b.delete(""))
		b.s.end()
		r.see("order", "%s", r.inOrder("box"))
	}},
	{name: "two delete", run: func(r *rig) {
		b := r.running("box", "sh", "-c", "exit 2")
		r.see("wait", "%s", b.wait(""))
		n := 0
		for _, s := range together(2, func() string { c := *b; return c.delete("") }) {
			if s == "2" {
				n++
			}
		}
		b.over, b.deleted = true, true
		r.see("have succeeded", "%d", n)
		r.see("then", "%s", b.delete(""))
	}},
	{name: "kill of all", run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000 & wait; wait; exec sleep 1000"})
		b.ok(b.create(streams{}))
		b.ok(b.start(""))
		b.exec("e", streams{}, sleep...)
		r.see("processes", "%v", eventually(func() bool { return r.inCgroup("box") == 4 }))
		r.see("SIGTERM", "%s", b.killAll(15))
		b.kill("e", 9) // which comes too late if the other signal came
		r.see("the exec", "%s", b.wait("e"))
		r.see("SIGKILL", "%s", b.killAll(9))
		r.see("wait", "%s", b.wait(""))
		r.see("alive", "%d", r.inCgroup("box"))
	}},
	{name: "signals", run: func(r *rig) {
		// Signals of which pid 1 of a namespace has no handler are lost; but SIGKILL.
		b := r.sleeper("box")
		r.see("SIGTERM to pid 1", "%s", b.kill("", 15))
		r.see("goes on", "%s", b.state(""))
		for sig, name := range map[int]string{1: "SIGHUP", 2: "SIGINT", 15: "SIGTERM", 34: "SIGRTMIN"} {
			b.exec(name, streams{}, sleep...)
			r.see(name, "%s, %s", b.kill(name, sig), b.wait(name))
		}
	}},
	{name: "init without a parent of its children", run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", "(sleep 1000 &); (setsid sleep 1000 &); exit 0"})
		b.ok(b.create(streams{}))
		b.ok(b.start(""))
		r.see("wait", "%s", b.wait(""))
		r.see("left in its cgroup", "%v", eventually(func() bool { return r.inCgroup("box") == 0 }))
		r.see("delete", "%s", b.delete(""))
	}},
}

// events of a topic, counted.
func (r *rig) count(topic string) int {
	n := 0
	for _, e := range r.events.all() {
		if strings.HasPrefix(e.topic, topic) {
			n++
		}
	}
	return n
}
