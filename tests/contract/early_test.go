// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

func itoa(pid uint32) string { return strconv.Itoa(int(pid)) }

// inCgroup counts the living processes of a container.
func (r *rig) inCgroup(id string) int {
	n := 0
	for pid := range r.processes() {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		b, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
		stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if strings.Contains(string(b), r.cgroup(id)+"\n") && !strings.HasPrefix(rest, "Z") {
			n++
		}
	}
	return n
}

// set is what there is in a list, each thing once.
func set(list []string) string {
	m := map[string]bool{}
	for _, s := range list {
		m[s] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), " | ")
}

// inOrder tells whether each process's events are in order, an exec's exit before init's.
func (r *rig) inOrder(id string) string {
	rank := map[string]int{"create": 0, "exec-added": 0, "start": 1, "exec-started": 1, "exit": 2, "delete": 3}
	last := map[string]int{}
	over := false
	for _, e := range r.events.all() {
		if e.id != id {
			continue
		}
		n, ok := rank[e.topic]
		if before, had := last[e.exec]; ok && had && n <= before {
			return fmt.Sprintf("%s of %q too late", e.topic, e.exec)
		}
		last[e.exec] = n
		if e.topic == "exit" && over {
			return fmt.Sprintf("%q ended after init", e.exec)
		}
		over = over || e.topic == "exit" && e.exec == ""
	}
	for exec, n := range last {
		if n == 1 {
			return fmt.Sprintf("no exit of %q", exec)
		}
	}
	return "ok"
}

// earlyCases are about processes that end before their Start has returned, and about many
// of them.
var earlyCases = []testCase{
	{name: "init ends at once", run: func(r *rig) {
		var told, waited []string
		for i := range 5 {
			b := r.created(fmt.Sprintf("box%d", i), "true")
			b.ok(b.start(""))
			waited = append(waited, b.wait("")+", "+b.delete(""))
			b.s.end()
			of := r.told(func(e event) bool { return e.id == b.id })
			told = append(told, strings.ReplaceAll(of, b.id, "box"))
		}
		r.see("events", "%s", set(told))
		r.see("wait, delete", "%s", set(waited))
	}},
	{name: "execs end at once, one after another", run: func(r *rig) {
		b := r.sleeper("box")
		var told, waited []string
		for i := range 8 {
			id := fmt.Sprintf("e%d", i)
			b.exec(id, streams{}, "true")
			waited = append(waited, b.wait(id)+", "+b.state(id)+", "+b.delete(id))
			r.events.await(1, func(e event) bool { return e.exec == id && e.topic == "exit" }, patience)
			told = append(told, strings.ReplaceAll(r.told(ofExec(id)), id, "e"))
		}
		r.see("events", "%s", set(told))
		r.see("wait, state, delete", "%s", set(waited))
	}},
	{name: "a storm of execs", run: func(r *rig) {
		b := r.sleeper("box")
		var mu sync.Mutex
		var results []string
		var wg sync.WaitGroup
		const n = 16
		for i := range n {
			wg.Go(func() {
				id := fmt.Sprintf("e%d", i)
				args := []string{"sh", "-c", fmt.Sprintf("exit %d", i%3)}
				if i%4 == 3 {
					args = sleep
				}
				out := b.add(id, streams{}, args...) + ", " + b.start(id)
				if i%4 == 3 {
					out += ", " + b.kill(id, 9)
				}
				out += fmt.Sprintf(", %s, %s", b.wait(id), b.delete(id))
				mu.Lock()
				defer mu.Unlock()
				results = append(results, out)
			})
		}
		wg.Wait()
		slices.Sort(results)
		r.see("results", "%s", set(results))
		r.see("afterwards", "%s; %s", b.state(""), b.pids())
		b.ok(b.kill("", 9))
		r.see("wait", "%s", b.wait(""))
		r.see("delete", "%s", b.delete(""))
		b.s.end()
		r.see("order", "%s", r.inOrder("box"))
	}},
	{name: "init ends while execs run", run: func(r *rig) {
		b := r.sleeper("box")
		for i := range 3 {
			b.exec(fmt.Sprintf("e%d", i), streams{}, sleep...)
		}
		b.ok(b.kill("", 9))
		r.see("wait", "%s", b.wait(""))
		r.see("execs", "%s, %s, %s", b.wait("e0"), b.wait("e1"), b.state("e2"))
		r.see("delete of an exec", "%s", b.delete("e0"))
		r.see("delete", "%s", b.delete(""))
		r.see("an exec after it", "%s", b.state("e1"))
		b.s.end()
		r.see("order", "%s", r.inOrder("box"))
	}},
	{name: "execs start while init is killed", run: func(r *rig) {
		b := r.sleeper("box")
		var wg sync.WaitGroup
		for i := range 6 {
			id := fmt.Sprintf("e%d", i)
			b.ok(b.add(id, streams{}, sleep...))
			wg.Go(func() { b.start(id) }) // or not: it may be too late
		}
		b.ok(b.kill("", 9))
		r.see("wait", "%s", b.wait(""))
		wg.Wait()
		r.see("delete", "%s", b.delete(""))
		b.s.end()
		r.see("order", "%s", r.inOrder("box"))
	}},
	{name: "an exec of no program", run: func(r *rig) {
		b := r.sleeper("box")
		b.ok(b.add("e", streams{}, "/nonesuch"))
		r.see("start", "%v", b.start("e") == "ok")
		r.see("wait", "%v", b.wait("e") != "0")
		r.see("kill", "%s", b.kill("e", 9))
		r.see("delete", "%v", b.delete("e") != "")
		r.see("gone", "%s", b.state("e"))
		r.see("init", "%s", b.state(""))
		r.see("the name again", "%s", b.add("e", streams{}, "true"))
		b.ok(b.start("e"))
		r.see("its wait", "%s", b.wait("e"))
	}},
}
