// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}

func onTerminal(s *specs.Spec) { s.Process.Terminal = true }

// terminalCases are about terminals: their size, and what ends when somebody leaves.
var terminalCases = []testCase{
	{name: "terminal: size", run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", "stty size; read x; stty size; exit 3"}, onTerminal)
		in, out := r.newStdin("in"), r.sink("out")
		b.ok(b.create(streams{stdin: in.path, stdout: out.path, terminal: true}))
		r.see("resize before the start", "%s", b.resize("", 100, 30))
		b.ok(b.start(""))
		r.see("size", "%v", out.await("30 100\r\n"))
		r.see("resize", "%s", b.resize("", 120, 40))
		in.write("\n")
		r.see("wait", "%s", b.wait(""))
		r.see("output", "%q", out.all())
		r.see("state", "%s", b.state(""))
	}},
	{name: "terminal: of an exec", run: func(r *rig) {
		b := r.sleeper("box")
		in, out := r.newStdin("in"), r.sink("out")
		to := streams{stdin: in.path, stdout: out.path, terminal: true}
		b.ok(b.add("e", to, "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo all; while read x; do stty size; done; exit 6"))
		r.see("resize before the start", "%s", b.resize("e", 100, 30))
		b.ok(b.start("e"))
		r.see("has a terminal", "%v", out.await("all"))
		r.see("resize", "%s", b.resize("e", 90, 20))
		in.write("\n")
		r.see("size", "%v", out.await("20 90"))
		in.write("\x04") // the end of the input, as typed
		r.see("wait", "%s", b.wait("e"))
		r.see("ends", "%v", !strings.Contains(out.all(), "without an end"))
		r.see("delete", "%s", b.delete("e"))
	}},
	{name: "terminal: a size that cannot be", run: func(r *rig) {
		b := r.new("box", sleep, onTerminal)
		out := r.sink("out")
		b.ok(b.create(streams{stdout: out.path, terminal: true}))
		r.see("resize", "%s", b.resize("", 70000, 30))
	}},
	{name: "terminal: signals typed", run: func(r *rig) {
		b := r.sleeper("box")
		in, out := r.newStdin("in"), r.sink("out")
		b.ok(b.add("e", streams{stdin: in.path, stdout: out.path, terminal: true}, "sh", "-c", "trap 'exit 8' INT; echo ready; while :; do sleep 0.05; done"))
		b.ok(b.start("e"))
		r.see("ready", "%v", out.await("ready"))
		in.write("\x03")
		r.see("wait", "%s", b.wait("e"))
	}},
	{name: "terminal: its client leaves and another comes", run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", "echo one; read x; echo got $x; read x; exit 3"}, onTerminal)
		in := r.newStdin("in")
		path, out := r.idle("out")
		b.ok(b.create(streams{stdin: in.path, stdout: path, terminal: true}))
		b.ok(b.start(""))
		buf := make([]byte, 5)
		_, err := out.Read(buf)
		r.must(err)
		out.Close()
		in.write("x\n")
		in.leave()
		r.see("meanwhile", "%s", b.state(""))
		second := r.attach(path)
		r.see("the second reads", "%v", second.await("got x\r\n"))
		in.write("y\n")
		r.see("wait", "%s", b.wait(""))
		r.see("ends", "%v", !strings.Contains(second.all(), "without an end"))
	}},
	{name: "terminal: a child keeps it open", run: func(r *rig) {
		b := r.sleeper("box")
		out := r.sink("out")
		b.ok(b.add("e", streams{stdout: out.path, terminal: true}, "sh", "-c", "trap '' HUP; setsid sleep 1000 & echo done; exit 3"))
		b.ok(b.start("e"))
		r.see("wait", "%s", b.wait("e"))
		r.see("delete", "%s", b.delete("e"))
		r.see("output", "%q", out.all())
	}},
	{name: "terminal: hang-up of children", run: func(r *rig) {
		b := r.sleeper("box")
		out := r.sink("out")
		b.ok(b.add("e", streams{stdout: out.path, terminal: true}, "sh", "-c", "sleep 1000 & echo done; exit 3"))
		b.ok(b.start("e"))
		r.see("wait", "%s", b.wait("e"))
		r.see("the child", "%v", eventually(func() bool { return r.inCgroup("box") == 1 }))
		r.see("delete", "%s", b.delete("e"))
	}},
	{name: "terminal: closed and opened again", run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", "echo one; exec 0<&- 1>&- 2>&-; sleep 0.3; exec >/dev/console; echo two; exit 3"}, onTerminal)
		out := r.sink("out")
		b.ok(b.create(streams{stdout: out.path, terminal: true}))
		b.ok(b.start(""))
		r.see("wait", "%s", b.wait(""))
		r.see("output", "%q", out.all())
	}},
	{name: "terminal: nobody reads", run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", "head -c 1000000 /dev/zero"}, onTerminal)
		path, out := r.idle("out")
		b.ok(b.create(streams{stdout: path, terminal: true}))
		b.ok(b.start(""))
		_, err := out.Read(make([]byte, 10))
		r.must(err)
		r.see("held up", "%s", b.state(""))
		r.see("kill", "%s", b.kill("", 9))
		r.see("wait", "%s", b.wait(""))
		go io.Copy(io.Discard, out)
		r.see("delete", "%s", b.delete(""))
	}},
}
