// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// logger is a logging binary's script, which notes what it was told and given. It does not
// mind SIGTERM, and ends with its input.
const logger = `#!/bin/sh
trap '' TERM
{ echo "id $CONTAINER_ID, namespace ${CONTAINER_NAMESPACE:+given}, arguments $*"; } >> %[1]s.told
cat <&3 >> %[1]s.out 3<&- 4<&- 5>&- &
cat <&4 >> %[1]s.err 3<&- 4<&- 5>&- &
exec 3<&- 4<&-
%[2]s
exec 5>&-
wait
`

func (r *rig) logger(name, ready string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	r.must(os.WriteFile(path, fmt.Appendf(nil, logger, path, ready), 0o700))
	return path
}

func (r *rig) text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "no file"
	}
	return string(b)
}

const chatter = "echo to stdout; echo to stderr >&2"

// stdioCases are about where streams lead to, and about readers that are slow or dead.
var stdioCases = []testCase{
	{name: "streams: FIFOs", run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", chatter + "; read x; echo got $x; cat; exit 5"})
		in, out, errs := r.newStdin("in"), r.sink("out"), r.sink("err")
		b.ok(b.create(streams{stdin: in.path, stdout: out.path, stderr: errs.path}))
		b.ok(b.start(""))
		in.write("hello\n")
		r.see("answers", "%v", out.await("got hello"))
		in.leave()
		in.write("a second client\n")
		r.see("a second client", "%v", out.await("second"))
		in.leave()
		r.see("without CloseIO", "%s", b.state(""))
		r.see("CloseIO", "%s", b.closeStdin(""))
		r.see("wait", "%s", b.wait(""))
		r.see("stdout", "%q", out.all())
		r.see("stderr", "%q", errs.all())
	}},
	{name: "streams: FIFOs of an exec", run: func(r *rig) {
		b := r.sleeper("box")
		in, out, errs := r.newStdin("in"), r.sink("out"), r.sink("err")
		b.exec("e", streams{stdin: in.path, stdout: out.path, stderr: errs.path}, "sh", "-c", chatter+"; wc -c; exit 4")
		in.write(strings.Repeat("0123456789", 30_000))
		r.see("CloseIO", "%s", b.closeStdin("e"))
		in.leave()
		r.see("wait", "%s", b.wait("e"))
		r.see("stdout", "%q", out.all())
		r.see("stderr", "%q", errs.all())
		r.see("delete", "%s", b.delete("e"))
	}},
	{name: "streams: none", run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", chatter + "; cat; exit 3"})
		b.ok(b.create(streams{}))
		b.ok(b.start(""))
		r.see("wait", "%s", b.wait(""))
	}},
	{name: "streams: stdout alone", only: []form{newForm, oldForm}, run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", chatter})
		out := r.sink("out")
		outcome := b.create(streams{stdout: out.path})
		r.see("create", "%s", outcome)
		if b.over = outcome != "ok"; b.over {
			return
		}
		b.ok(b.start(""))
		b.wait("")
		r.see("stdout", "%q", out.all())
	}},
	{name: "streams: a URI of FIFOs", only: []form{newForm, oldForm}, run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", chatter})
		out, errs := r.sink("out"), r.sink("err")
		outcome := b.create(streams{stdout: "fifo://" + out.path, stderr: "fifo://" + errs.path})
		r.see("create", "%s", outcome)
		if b.over = outcome != "ok"; b.over {
			return
		}
		b.ok(b.start(""))
		b.wait("")
		r.see("stdout", "%q", out.all())
		r.see("stderr", "%q", errs.all())
	}},
	{name: "streams: a file", run: func(r *rig) {
		log := filepath.Join(r.dir, "made", "for", "it", "log")
		uri := "file://" + log
		b := r.new("box", []string{"sh", "-c", chatter + "; sleep 1000"})
		b.ok(b.create(streams{stdout: uri, stderr: uri}))
		b.ok(b.start(""))
		r.see("both streams", "%v", eventually(func() bool { return len(r.text(log)) == len("to stdout\nto stderr\n") }))
		b.exec("e", streams{stdout: uri, stderr: uri}, "echo", "of an exec")
		b.wait("e")
		b.delete("e")
		r.see("is added to", "%v", strings.HasSuffix(r.text(log), "of an exec\n"))
		st, err := os.Stat(log)
		r.must(err)
		r.see("mode", "%v", st.Mode().Perm())
	}},
	{name: "streams: a logging binary", run: func(r *rig) {
		path := r.logger("logger", "")
		b := r.new("box", []string{"sh", "-c", chatter + "; exit 2"})
		r.see("create", "%s", b.create(streams{stdout: "binary://" + path + "?key=a%20value", stderr: "binary://" + path}))
		r.see("start", "%s", b.start(""))
		r.see("wait", "%s", b.wait(""))
		r.see("delete", "%s", b.delete(""))
		r.see("it was told", "%q", r.text(path+".told"))
		r.see("stdout", "%q", r.text(path+".out"))
		r.see("stderr", "%q", r.text(path+".err"))
	}},
	{name: "streams: a logging binary of an exec", run: func(r *rig) {
		path := r.logger("logger", "")
		b := r.sleeper("box")
		b.exec("e", streams{stdout: "binary://" + path, stderr: "binary://" + path}, "sh", "-c", chatter)
		r.see("wait", "%s", b.wait("e"))
		r.see("delete", "%s", b.delete("e"))
		r.see("it was told", "%q", r.text(path+".told"))
		r.see("stdout", "%q", r.text(path+".out"))
	}},
	{name: "streams: a logging binary that must tell that it is ready", run: func(r *rig) {
		for name, ready := range map[string]string{"tells": "printf x >&5", "does not": ""} {
			path := r.logger(strings.Fields(name)[0], ready)
			b := r.new("box-"+strings.Fields(name)[0], []string{"sh", "-c", chatter})
			uri := "binary-v2://" + path
			outcome := b.create(streams{stdout: uri, stderr: uri})
			r.see(name, "%s", outcome)
			if b.over = outcome != "ok"; b.over {
				continue
			}
			b.ok(b.start(""))
			b.wait("")
			b.delete("")
			r.see(name+": stdout", "%q", r.text(path+".out"))
		}
	}},
	{name: "streams: a logging binary that fails", run: func(r *rig) {
		path := filepath.Join(r.dir, "logger")
		r.must(os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o700))
		for i, x := range []struct{ name, uri string }{{"ends", "binary://" + path}, {"is not there", "binary:///nonesuch"}, {"has an unknown scheme", "http://x/y"}} {
			b := r.new(fmt.Sprintf("box%d", i), []string{"true"})
			outcome := b.create(streams{stdout: x.uri, stderr: x.uri})
			r.see(x.name, "%s", outcome)
			b.over = outcome != "ok"
		}
	}},
	{name: "streams: a reader that waits for the end", run: func(r *rig) {
		b, _, out := r.writing(100000)
		r.see("wait", "%s", b.wait(""))
		done := make(chan string)
		go func() { done <- b.delete("") }()
		n, err := io.Copy(io.Discard, out)
		r.see("read", "%d, %v", n, err)
		r.see("delete", "%s", <-done)
	}},
	{name: "streams: a slow reader", run: func(r *rig) {
		b, _, out := r.writing(1000000)
		first, err := io.ReadFull(out, make([]byte, 1000))
		r.must(err)
		r.see("held up", "%s", b.state(""))
		rest, err := io.Copy(io.Discard, out)
		r.see("read", "%d, %v", int64(first)+rest, err)
		r.see("wait", "%s", b.wait(""))
	}},
	{name: "streams: a reader dies and another comes", run: func(r *rig) {
		b, path, out := r.writing(300000)
		first, err := io.ReadFull(out, make([]byte, 1000))
		r.must(err)
		out.Close()
		r.see("meanwhile", "%s", b.state(""))
		second := r.attach(path)
		r.see("read", "%d", first+len(second.all()))
		r.see("wait", "%s", b.wait(""))
	}},
	{name: "streams: a reader dies for good", run: func(r *rig) {
		b, _, out := r.writing(1000000)
		_, err := io.ReadFull(out, make([]byte, 1000))
		r.must(err)
		out.Close()
		r.see("meanwhile", "%s", b.state(""))
		r.see("an exec", "%s", func() string { b.exec("e", streams{}, "sh", "-c", "exit 3"); return b.wait("e") }())
		r.see("kill", "%s", b.kill("", 9))
		r.see("wait", "%s", b.wait(""))
		r.see("delete", "%s", b.delete(""))
	}},
	{name: "streams: no reader comes", only: []form{newForm, oldForm}, run: func(r *rig) {
		b := r.new("box", sleep)
		ctx, cancel := background()
		defer cancel()
		if !r.ours() { // what waits, waits for as long as its caller
			ctx, cancel = withTimeout(ctx, 2*time.Second)
			defer cancel()
		}
		outcome := b.createWith(ctx, streams{stdout: r.fifo("out"), stderr: r.fifo("err")})
		r.see("create", "%v", outcome == "ok")
		b.over = outcome != "ok"
	}},
}

// writing is a started container that writes n bytes and ends with 7; its stdout is a
// FIFO at path, of which out reads only what a case asks of it.
func (r *rig) writing(n int) (b *box, path string, out *os.File) {
	r.t.Helper()
	b = r.new("box", []string{"sh", "-c", fmt.Sprintf("head -c %d /dev/zero; exit 7", n)})
	path, out = r.idle("out")
	b.ok(b.create(streams{stdout: path, stderr: r.sink("err").path}))
	b.ok(b.start(""))
	return b, path, out
}
