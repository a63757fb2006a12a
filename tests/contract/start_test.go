// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var sleep = []string{"sleep", "1000"}

// startCases are about the start action: what it answers, and which containers share a
// shim.
var startCases = []testCase{
	{name: "start: its answer", run: func(r *rig) {
		dir := r.bundle("box", sleep)
		s, a := r.start("box")
		r.see("form", "%s, version %d, %s", a.form, a.version, a.protocol)
		r.see("extensions", "%v", a.types)
		path, ok := strings.CutPrefix(a.address, "unix://")
		r.see("address", "%v in %v", ok, filepath.Dir(path) == r.sockets())
		st, err := os.Stat(path)
		r.must(err)
		r.see("socket", "%v", st.Mode().Perm()&0o077)
		b, err := os.ReadFile(filepath.Join(dir, "address"))
		r.see("address file", "%v", err == nil && string(b) == a.address)
		r.see("connect", "%s", r.boxOf(s, "box").connect())
	}},
	{name: "start: the same container again", run: func(r *rig) {
		r.bundle("box", sleep)
		s, _ := r.start("box")
		again, _ := r.start("box")
		r.see("same shim", "%v", s.pid == again.pid && s.address == again.address)
	}},
	{name: "start: a pod's containers", run: func(r *rig) {
		for id, pod := range map[string]string{"pause": "pause", "box": "pause", "stranger": "other"} {
			r.bundle(id, sleep, inPod(pod))
		}
		first, _ := r.start("pause")
		second, _ := r.start("box")
		third, _ := r.start("stranger")
		r.see("same pod", "%v", first.pid == second.pid)
		r.see("another pod", "%v", first.pid == third.pid)
		first.kill()
		again, _ := r.start("box")
		r.see("after its death", "same address %v, same shim %v", again.address == first.address, again.pid == first.pid)
	}},
	{name: "start: groups by annotation", run: func(r *rig) {
		for _, key := range []string{"io.containerd.runc.v2.group", "io.kubernetes.cri-o.SandboxID"} {
			var shims []*shim
			for i := range 2 {
				id := fmt.Sprintf("%s-%d", key[len(key)-5:], i)
				r.bundle(id, sleep, func(s *specs.Spec) { s.Annotations = map[string]string{key: "group" + key[len(key)-5:]} })
				s, _ := r.start(id)
				shims = append(shims, s)
			}
			r.see(key, "%v", shims[0].pid == shims[1].pid)
		}
	}},
	{name: "start: what is wrong", run: func(r *rig) {
		dir := r.bundle("box", sleep)
		attempt := func(field, id string, args ...string) {
			_, err := r.action(id, dir, r.stdin(id), args...)
			r.see(field, "%v", err == nil)
		}
		attempt("an empty namespace", "box", "-namespace", "", "start")
		attempt("an unknown flag", "box", "-nonsense", "start")
		attempt("a slash in the namespace", "box", "-namespace", "a/../b", "start")
		r.must(os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"), 0o600))
		attempt("half a config.json", "box", "start")
		r.must(os.Remove(filepath.Join(dir, "config.json")))
		attempt("no config.json", "other", "start")
		r.clearStrays()
	}},
	{name: "start: the daemon", run: func(r *rig) {
		r.bundle("box", sleep)
		s, _ := r.start("box")
		proc := fmt.Sprintf("/proc/%d/", s.pid)
		group, err := unix.Getpgid(s.pid)
		r.must(err)
		r.see("group of its own", "%v", group == s.pid)
		session, err := unix.Getsid(s.pid)
		r.must(err)
		r.see("session of its own", "%v", session == s.pid)
		cwd, err := os.Readlink(proc + "cwd")
		r.must(err)
		r.see("in the bundle", "%v", strings.HasPrefix(cwd, r.dir))
		own, err := os.ReadFile("/proc/self/oom_score_adj")
		r.must(err)
		score, err := os.ReadFile(proc + "oom_score_adj")
		r.must(err)
		var a, b int
		fmt.Sscan(string(own), &a)
		fmt.Sscan(string(score), &b)
		r.see("oom_score_adj", "%+d", b-a)
		r.must(unix.PidfdSendSignal(s.pidfd, unix.SIGTERM, nil, 0))
		r.see("ends of SIGTERM", "%v", s.gone(patience))
		_, err = os.Stat(strings.TrimPrefix(s.address, "unix://"))
		r.see("its socket", "%v", err == nil)
	}},
	{name: "info", only: []form{newForm}, run: infoCase},
}

// clearStrays ends shims of which the case does not know.
func (r *rig) clearStrays() {
	for pid, what := range r.processes() {
		if what == "shim" {
			_ = unix.Kill(pid, unix.SIGTERM)
		}
	}
	eventually(func() bool { return len(r.processes()) == 0 })
}
