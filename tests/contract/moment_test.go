// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// held is an exec whose Start is under way and does not go on: nobody reads its stdout yet.
type held struct {
	*box
	exec    string
	in      *stdin
	out     string      // stdout's FIFO
	started chan string // Start's outcome
}

// hold adds an exec and starts it until the shim has opened its stdin and waits for the reader
// of its stdout: without an end in runc's shim, for three seconds in ours.
func (b *box) hold(exec string, terminal bool, args ...string) *held {
	b.r.t.Helper()
	h := &held{box: b, exec: exec, in: b.r.newStdin(exec + "-in"), out: b.r.fifo(exec + "-out"), started: make(chan string, 1)}
	b.ok(b.add(exec, streams{stdin: h.in.path, stdout: h.out, stderr: b.r.sinkUnless(terminal, exec+"-err"), terminal: terminal}, args...))
	go func() { h.started <- b.start(exec) }()
	if !eventually(h.in.hasWriter) {
		b.r.t.Fatalf("the shim has not opened the stdin of %s", exec)
	}
	return h
}

func (r *rig) sinkUnless(not bool, name string) string {
	if not {
		return ""
	}
	return r.sink(name).path
}

// hasWriter tells whether somebody holds the FIFO open for writing.
func (s *stdin) hasWriter() bool {
	f, err := os.OpenFile(s.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	s.r.must(err)
	defer f.Close()
	n, err := unix.Read(int(f.Fd()), make([]byte, 1))
	return n < 0 && errors.Is(err, unix.EAGAIN)
}

// during makes a call while Start is under way, which it may have to wait for, and lets Start
// go on. It returns what both gave, and the exec's output.
func (h *held) during(call func() string) (outcome, start string, out *sink) {
	h.r.t.Helper()
	done := make(chan string, 1)
	go func() { done <- call() }()
	select { // one that waits for Start has time to come to that
	case outcome = <-done:
	case <-time.After(time.Second):
	}
	out = h.r.attach(h.out)
	if outcome == "" {
		outcome = <-done
	}
	return outcome, <-h.started, out
}

// askStdin is a script that tells what its stdin has: an end, or a line.
var askStdin = []string{"sh", "-c", "read x && echo got $x; cat; echo end"}

// momentCases are about calls that come at each moment of an exec's life: before its Start,
// while that is under way, and after its exit.
var momentCases = []testCase{
	{name: "before the start of an exec", run: func(r *rig) {
		b := r.sleeper("box")
		b.ok(b.add("kill", streams{}, sleep...))
		r.see("kill", "%s", b.kill("kill", 9))
		r.see("start after the kill", "%s", b.start("kill"))
		r.see("kill after the start", "%s, %s", b.kill("kill", 9), b.wait("kill"))

		b.ok(b.add("close", streams{}, sleep...))
		r.see("close without a stdin", "%s", b.closeStdin("close"))
		r.see("delete", "%s", b.delete("close"))
		r.see("start after the delete", "%s", b.start("close"))
		r.see("its name again", "%s", b.add("close", streams{}, "true"))

		in, out := r.newStdin("in"), r.sink("out")
		b.ok(b.add("stdin", streams{stdin: in.path, stdout: out.path, stderr: r.sink("err").path}, askStdin...))
		r.see("close", "%s, %s", b.closeStdin("stdin"), b.closeStdin("stdin"))
		b.ok(b.start("stdin"))
		if !r.ours() { // where it was forgotten
			in.write("a line\n")
			in.leave()
			b.ok(b.closeStdin("stdin"))
		}
		r.see("wait", "%s", b.wait("stdin"))
		r.see("stdin has", "%q", out.all())
	}},
	{name: "kill during the start of an exec", run: func(r *rig) {
		b := r.sleeper("box")
		h := b.hold("e", false, sleep...)
		kill, start, _ := h.during(func() string { return b.kill("e", 9) })
		r.see("kill", "%s", kill)
		r.see("start", "%s", start)
		r.see("wait", "%s", b.wait("e"))
		r.see("delete", "%s", b.delete("e"))
		b.ok(b.kill("", 9))
		b.wait("")
		r.see("order", "%s", r.inOrder("box"))
	}},
	{name: "close during the start of an exec", run: func(r *rig) {
		b := r.sleeper("box")
		h := b.hold("e", false, askStdin...)
		left := make(chan struct{})
		write := func() {
			defer close(left)
			h.in.write("a line\n")
			h.in.leave()
		}
		if r.ours() {
			write() // after the close there may be no reader
		} else {
			go write() // its open has to wait until stdout has a reader
		}
		closed, start, out := h.during(func() string { return b.closeStdin("e") })
		<-left
		r.see("close", "%s", closed)
		r.see("start", "%s", start)
		r.see("close again", "%s", b.closeStdin("e"))
		r.see("wait", "%s", b.wait("e"))
		r.see("stdin has", "%q", out.all())
	}},
	{name: "resize during the start of an exec", run: func(r *rig) {
		b := r.sleeper("box")
		h := b.hold("e", true, "sh", "-c", "read x; stty size")
		resized, start, out := h.during(func() string { return b.resize("e", 101, 33) })
		r.see("resize", "%s", resized)
		r.see("start", "%s", start)
		h.in.write("\n")
		r.see("wait", "%s", b.wait("e"))
		r.see("size", "%v", out.await("33 101"))
	}},
	{name: "delete during the start of an exec", run: func(r *rig) {
		b := r.sleeper("box")
		h := b.hold("e", false, sleep...)
		deleted, start, _ := h.during(func() string { return b.delete("e") })
		r.see("delete", "%s", deleted)
		r.see("start", "%s", start)
		r.see("state", "%s", b.state("e"))
	}},
	{name: "after the exit", run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", "exit 3"}, onTerminal)
		b.ok(b.create(streams{stdin: r.newStdin("in").path, stdout: r.sink("out").path, terminal: true}))
		other := r.sleeper("other")
		in, out := r.newStdin("e-in"), r.sink("e-out")
		other.ok(other.add("e", streams{stdin: in.path, stdout: out.path, terminal: true}, "sh", "-c", "exit 4"))
		other.ok(other.start("e"))
		b.ok(b.start(""))
		for _, x := range []struct {
			who  string
			box  *box
			exec string
		}{{"init", b, ""}, {"exec", other, "e"}} {
			r.see(x.who+": wait", "%s", x.box.wait(x.exec))
			r.see(x.who+": kill", "%s", x.box.kill(x.exec, 9))
			r.see(x.who+": close", "%s, %s", x.box.closeStdin(x.exec), x.box.closeStdin(x.exec))
			r.see(x.who+": resize", "%s", x.box.resize(x.exec, 100, 30))
			r.see(x.who+": start", "%v", x.box.start(x.exec) == "ok")
			r.see(x.who+": delete", "%s", x.box.delete(x.exec))
			r.see(x.who+": kill after the delete", "%s", x.box.kill(x.exec, 9))
			r.see(x.who+": resize after the delete", "%s", x.box.resize(x.exec, 100, 30))
		}
	}},
}
