// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func infoCase(r *rig) {
	dir := r.bundle("box", sleep)
	out, err := r.action("box", dir, nil, "-info")
	r.must(err)
	var info types.RuntimeInfo
	r.must(proto.Unmarshal(out, &info))
	var f features.Features
	r.must(json.Unmarshal(info.GetFeatures().GetValue(), &f))
	r.see("name", "%s", info.Name)
	r.see("type", "%s", info.GetFeatures().GetTypeUrl())
	r.see("user namespaces", "%v", slices.Contains(f.Linux.Namespaces, "user"))
	r.see("idmapped mounts", "%v", *f.Linux.MountExtensions.IDMap.Enabled)
	r.see("rro", "%v", slices.Contains(f.MountOptions, "rro"))
	r.see("of other options", "%v", func() bool {
		b, err := proto.Marshal(&anypb.Any{TypeUrl: "runtimeoptions.v1.Options"})
		r.must(err)
		_, err = r.action("box", dir, b, "-info")
		return err == nil
	}())
}

// serviceCases are about the task service: a container's life, and what is answered in
// each state.
var serviceCases = []testCase{
	{name: "a whole life", run: func(r *rig) {
		b := r.new("box", []string{"sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"})
		r.see("connect before", "%s", b.connect())
		r.see("create", "%s", b.create(streams{}))
		r.see("connect", "%s", b.connect())
		r.see("created", "%s", b.state(""))
		r.see("pids when created", "%s", b.pids())
		r.see("start", "%s", b.start(""))
		r.see("running", "%s", b.state(""))
		r.see("add", "%s", b.add("e", streams{}, "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done"))
		r.see("exec created", "%s", b.state("e"))
		r.see("exec start", "%s", b.start("e"))
		r.see("exec running", "%s", b.state("e"))
		r.see("pids", "%v", strings.Contains(b.pids(), "box e (containerd.runc.v1.ProcessDetails)"))
		r.see("stats", "%s", b.stats())
		r.see("update", "%s", b.update(`{"pids":{"limit":100}}`))
		r.see("pause", "%s", b.pause())
		r.see("paused", "%s, its exec %s", b.state(""), b.state("e"))
		r.see("resume", "%s", b.resume())
		r.see("exec kill", "%s", r.killTrapped(b, "e"))
		r.see("exec wait", "%s", b.wait("e"))
		r.see("exec stopped", "%s", b.state("e"))
		r.see("exec delete", "%s", b.delete("e"))
		r.see("exec deleted", "%s", b.state("e"))
		r.see("kill", "%s", r.killTrapped(b, ""))
		r.see("wait", "%s", b.wait(""))
		r.see("stopped", "%s", b.state(""))
		r.see("stats when stopped", "%s", b.stats())
		r.see("delete", "%s", b.delete(""))
		r.see("delete again", "%s", b.delete(""))
		r.see("connect after", "%s", b.connect())
		r.see("shutdown", "%s", b.shutdown())
		b.s.client.Close()
		r.see("shim has left", "%v", b.s.gone(patience))
		r.see("events", "%s", r.told(nil))
		var files []string
		entries, err := os.ReadDir(r.bundleDir("box"))
		r.must(err)
		for _, e := range entries {
			if !slices.Contains([]string{"config.json", "log", "rootfs"}, e.Name()) {
				files = append(files, e.Name())
			}
		}
		r.see("files in the bundle", "%v", files)
		r.see("delete action", "%s, %s", r.remove("box"), r.remove("box"))
	}},
	{name: "unknown containers and processes", run: func(r *rig) {
		b := r.sleeper("box")
		for _, x := range []struct {
			name string
			b    *box
			exec string
		}{{"container", &box{r: r, s: b.s, id: "no", over: true}, ""}, {"process", b, "no"}} {
			for call, f := range map[string]func() string{
				"start":  func() string { return x.b.start(x.exec) },
				"delete": func() string { return x.b.delete(x.exec) },
				"state":  func() string { return x.b.state(x.exec) },
				"wait":   func() string { return x.b.wait(x.exec) },
				"kill":   func() string { return x.b.kill(x.exec, 9) },
				"resize": func() string { return x.b.resize(x.exec, 1, 1) },
				"close":  func() string { return x.b.closeStdin(x.exec) },
			} {
				r.see(call+" of an unknown "+x.name, "%s", f())
			}
		}
		no := &box{r: r, s: b.s, id: "no", over: true}
		for call, f := range map[string]func() string{
			"pids": no.pids, "pause": no.pause, "resume": no.resume, "stats": no.stats, "connect": no.connect,
			"update": func() string { return no.update("{}") }, "checkpoint": no.checkpoint,
			"exec": func() string { return no.add("e", streams{}, "true") },
		} {
			r.see(call, "%s", f())
		}
	}},
	{name: "calls in the wrong state", run: func(r *rig) {
		b := r.created("box", sleep...)
		r.see("pause when created", "%s", b.pause())
		r.see("resume when created", "%s", b.resume())
		r.see("create when created", "%s", func() string { again := *b; return again.create(streams{}) }())
		b.ok(b.start(""))
		r.see("start when running", "%s", b.start(""))
		r.see("resume when running", "%s", b.resume())
		r.see("delete when running", "%s", b.delete(""))
		r.see("resize without a terminal", "%s", b.resize("", 80, 24))
		r.see("close without stdin", "%s", b.closeStdin(""))
		r.see("a signal that there is not", "%s", b.kill("", 99))
		r.see("signal 0", "%s", b.kill("", 0))
		b.ok(b.add("e", streams{}, "true"))
		r.see("add again", "%s", b.add("e", streams{}, "true"))
		r.see("kill of an exec when created", "%s", b.kill("e", 9))
		b.ok(b.pause())
		r.see("pause when paused", "%s", b.pause())
		r.see("add when paused", "%s", b.add("f", streams{}, "true"))
		r.see("delete when paused", "%s", b.delete(""))
		r.see("kill when paused", "%s", b.kill("", 9))
		r.see("wait when paused", "%s", b.wait(""))
		r.see("start of an exec when stopped", "%s", b.start("e"))
		r.see("start when stopped", "%s", b.start(""))
		r.see("add when stopped", "%s", b.add("g", streams{}, "true"))
		r.see("kill when stopped", "%s", b.kill("", 9))
		r.see("kill of all when stopped", "%s", b.killAll(9))
		r.see("pause when stopped", "%s", b.pause())
		r.see("resume when stopped", "%s", b.resume())
		r.see("update when stopped", "%s", b.update(`{"pids":{"limit":100}}`))
		r.see("resize when stopped", "%s", b.resize("", 80, 24))
		r.see("close when stopped", "%s", b.closeStdin(""))
		r.see("wait when stopped", "%s", b.wait(""))
	}},
	{name: "an exec in a container that was only created", run: func(r *rig) {
		b := r.created("box", sleep...)
		b.ok(b.add("e", streams{}, "sh", "-c", "exit 4"))
		r.see("start", "%s", b.start("e"))
		r.see("wait", "%s", b.wait("e"))
		r.see("delete", "%s", b.delete("e"))
		r.see("start of init", "%s", b.start(""))
		r.see("state", "%s", b.state(""))
	}},
	{name: "what is not supported", run: func(r *rig) {
		b := r.new("box", sleep)
		r.see("restore", "%s", b.create(streams{}, func(c *taskapi.CreateTaskRequest) { c.Checkpoint = "/nonesuch" }))
		b = r.sleeper("other")
		r.see("checkpoint", "%s", b.checkpoint())
		r.see("goes on", "%s", b.state(""))
	}},
	{name: "create: options", run: func(r *rig) {
		for i, x := range []struct {
			name string
			m    proto.Message
		}{
			{"empty", &options.Options{}},
			{"owner of the pipes", &options.Options{IoUid: 1000, IoGid: 1000}},
			{"no new keyring", &options.Options{NoNewKeyring: true}},
			{"another binary", &options.Options{BinaryName: filepath.Join(r.path, "runc")}},
		} {
			b := r.new("box"+string(rune('a'+i)), []string{"true"})
			value, err := proto.Marshal(x.m)
			r.must(err)
			r.see(x.name, "%s", b.create(streams{}, func(c *taskapi.CreateTaskRequest) {
				c.Options = &anypb.Any{TypeUrl: string(x.m.ProtoReflect().Descriptor().FullName()), Value: value}
			}))
		}
		b := r.new("odd", []string{"true"})
		r.see("of an unknown type", "%s", b.create(streams{}, func(c *taskapi.CreateTaskRequest) {
			c.Options = &anypb.Any{TypeUrl: "nobody.knows.Options", Value: []byte{1}}
		}))
	}},
	{name: "create fails", run: func(r *rig) {
		b := r.new("box", []string{"/nonesuch"})
		created := b.create(streams{})
		if created == "ok" { // then the next must tell
			created = b.start("")
		}
		r.see("no such program", "%v", created == "ok")
		r.see("connect", "%s", b.connect())
		r.see("delete", "%s", b.delete(""))
		r.see("shutdown", "%s", b.shutdown())
		b.s.client.Close()
		r.see("shim has left", "%v", b.s.gone(patience))
		r.see("delete action", "%s", r.remove("box"))
		b.over = true
		r.see("events", "%s", r.told(nil))

		b = r.new("again", sleep)
		r.must(os.WriteFile(filepath.Join(r.bundleDir("again"), "config.json"), []byte("{}"), 0o600))
		r.see("an empty config.json", "%v", b.create(streams{}) == "ok")
		b.over = true
	}},
	{name: "create fails with a mount that cannot be", only: []form{newForm, oldForm}, run: func(r *rig) {
		b := r.new("box", sleep)
		r.see("create", "%v", b.create(streams{}, func(c *taskapi.CreateTaskRequest) {
			c.Rootfs = []*types.Mount{{Type: "bind", Source: "/nonesuch", Options: []string{"rbind", "ro"}}}
		}) == "ok")
		r.see("delete", "%s", b.delete(""))
		b.over = true
	}},
	{name: "two containers in a shim", run: func(r *rig) {
		r.bundle("pause", sleep, inPod("pause"))
		r.bundle("box", sleep, inPod("pause"))
		s, _ := r.start("pause")
		pause := r.boxOf(s, "pause")
		pause.ok(pause.create(streams{}))
		pause.ok(pause.start(""))
		s, _ = r.start("box")
		b := r.boxOf(s, "box")
		b.ok(b.create(streams{}))
		b.ok(b.start(""))
		r.see("pids", "%s and %s", pause.pids(), b.pids())
		b.ok(b.kill("", 9))
		r.see("wait", "%s", b.wait(""))
		r.see("delete", "%s", b.delete(""))
		r.see("shutdown with a sibling", "%s", b.shutdown())
		r.see("delete action with a sibling", "%s", r.remove("box"))
		r.see("the sibling", "%s", pause.state(""))
		r.see("an exec in it", "%s", func() string { pause.exec("e", streams{}, "sh", "-c", "exit 3"); return pause.wait("e") }())
		again := r.boxOf(pause.s, "box")
		r.must(os.RemoveAll(filepath.Join(r.bundleDir("box"), "address")))
		r.see("the same name again", "%s", again.create(streams{}))
	}},
	{name: "a shared pid namespace", run: func(r *rig) {
		r.bundle("pause", sleep, inPod("pause"))
		s, _ := r.start("pause")
		pause := r.boxOf(s, "pause")
		pause.ok(pause.create(streams{}))
		pause.ok(pause.start(""))
		r.bundle("box", []string{"sh", "-c", "sleep 1000 & sleep 1000 & read x"}, inPod("pause"), func(sp *specs.Spec) {
			for i, ns := range sp.Linux.Namespaces {
				if ns.Type == specs.PIDNamespace {
					sp.Linux.Namespaces[i].Path = filepath.Join("/proc", itoa(pause.pid), "ns/pid")
				}
			}
		})
		s, _ = r.start("box")
		b := r.boxOf(s, "box")
		in := r.newStdin("in")
		b.ok(b.create(streams{stdin: in.path, stdout: r.sink("out").path, stderr: r.sink("err").path}))
		b.ok(b.start(""))
		r.see("processes", "%v", eventually(func() bool { return strings.Count(b.pids(), ",") == 2 }))
		in.write("x\n")
		r.see("wait", "%s", b.wait(""))
		r.see("the rest ends", "%v", eventually(func() bool { return r.inCgroup("box") == 0 }))
		r.see("delete", "%s", b.delete(""))
		r.see("the sibling", "%s", pause.state(""))
	}},
}

// killTrapped sends SIGTERM to a shell that traps it, once it does.
func (r *rig) killTrapped(b *box, exec string) string {
	pid := b.pid
	if exec != "" {
		r.mu.Lock()
		for p, name := range r.names {
			if name == b.id+" "+exec {
				pid = p
			}
		}
		r.mu.Unlock()
	}
	eventually(func() bool {
		text, _ := os.ReadFile(filepath.Join("/proc", itoa(pid), "status"))
		for line := range strings.Lines(string(text)) {
			if mask, ok := strings.CutPrefix(line, "SigCgt:\t"); ok {
				return len(mask) > 4 && strings.ContainsAny(mask[len(mask)-5:len(mask)-4], "4567cdef")
			}
		}
		return false
	})
	return b.kill(exec, 15)
}
