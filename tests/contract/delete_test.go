// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// deleteCases are about the delete action, which comes after every removal and after the
// death of a shim, and about Delete.
var deleteCases = []testCase{
	{name: "delete action: of what was never created", run: func(r *rig) {
		b := r.new("box", sleep)
		r.see("answer", "%s, %s", r.remove("box"), r.remove("box"))
		r.see("the shim", "%s", b.connect())
		b.over = true
	}},
	{name: "delete action: of an empty bundle", run: func(r *rig) {
		r.must(os.MkdirAll(r.bundleDir("box"), 0o711))
		r.see("answer", "%s, %s", r.remove("box"), r.remove("box"))
	}},
	{name: "delete action: while the shim lives", run: func(r *rig) {
		b := r.sleeper("box")
		b.exec("e", streams{}, sleep...)
		r.see("answers", "%s, %s", r.remove("box"), r.remove("box"))
		r.see("alive", "%d", r.inCgroup("box"))
		within := time.Second
		if r.ours() {
			within = patience
		}
		ends := b.s.gone(within)
		r.see("the shim ends by itself", "%v", ends)
		if b.over = ends; !ends {
			b.wait("")
			b.delete("")
		}
	}},
	{name: "delete action: after an exit that nobody asked for", run: func(r *rig) {
		b := r.running("box", "sh", "-c", "exit 5")
		r.see("wait", "%s", b.wait(""))
		// runc's newer shim writes its note of the exit after it has answered Wait; the older
		// one writes none.
		for range 100 {
			if _, err := os.Stat(filepath.Join(r.bundleDir("box"), "exit.json")); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		b.s.kill()
		r.see("answer", "%s, %s", r.remove("box"), r.remove("box"))
		b.over = true
	}},
	{name: "delete action: two at once", run: func(r *rig) {
		b := r.sleeper("box")
		b.s.kill()
		answers := together(2, func() string { return r.remove("box") })
		r.see("answers", "%s", set(answers))
		b.over = true
	}},
	{name: "delete action: a pod's containers at once", run: func(r *rig) {
		var s *shim
		for _, id := range []string{"pause", "one", "two"} {
			r.bundle(id, sleep, inPod("pause"))
			s, _ = r.start(id)
			b := r.boxOf(s, id)
			b.ok(b.create(streams{}))
			b.ok(b.start(""))
			b.over = true
		}
		s.kill()
		answers := make(chan string)
		for _, id := range []string{"pause", "one", "two"} {
			go func() { answers <- r.remove(id) }()
		}
		r.see("answers", "%s", strings.Join([]string{<-answers, <-answers, <-answers}, ", "))
	}},
	{name: "delete: an exec twice", run: func(r *rig) {
		b := r.sleeper("box")
		b.exec("e", streams{}, "true")
		b.wait("e")
		r.see("delete", "%s, %s", b.delete("e"), b.delete("e"))
		b.exec("e", streams{}, sleep...)
		r.see("of one that runs", "%s", b.delete("e"))
		b.ok(b.add("f", streams{}, "true"))
		r.see("of one that was not started", "%v", b.delete("f") != "")
		r.see("then", "%s", b.state("f"))
	}},
	{name: "delete: with processes and mounts left inside", run: func(r *rig) {
		b := r.running("box", "sh", "-c", "mkdir -p /tmp/m; mount -t tmpfs x /tmp/m 2>/dev/null; sleep 1000 & sleep 1000 & read x")
		r.see("wait", "%s", b.wait(""))
		r.see("delete", "%s", b.delete(""))
	}},
}
