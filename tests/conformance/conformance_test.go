// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime"
	"sysbox/tests/conformance/inside"
	"sysbox/tests/testcontainer"
)

// TestTable makes the containers of the table and looks whether each row is as it says.
func TestTable(t *testing.T) {
	w := newWorld(t)
	boxes := map[string][]Row{}
	var names []string
	var refused, execs []Row
	tried := map[string]bool{}
	for _, r := range Table() {
		if r.When != nil && !r.When.Met() {
			t.Logf("not on this host, as it has not %s: %s (%s)", r.When.Name, r.Field, r.Case)
			continue
		}
		tried[r.Field] = true
		switch {
		case r.Exec != nil:
			execs = append(execs, r)
		case r.Refused != "" || r.Fails != "":
			refused = append(refused, r)
		default:
			if boxes[r.Box] == nil {
				names = append(names, r.Box)
			}
			boxes[r.Box] = append(boxes[r.Box], r)
		}
	}
	for _, r := range Table() {
		if !tried[r.Field] {
			t.Errorf("no row of %s can be tried on this host", r.Field)
		}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { w.box(t, name, boxes[name]) })
	}
	t.Run("refused", func(t *testing.T) {
		for _, r := range refused {
			t.Run(r.Field+" "+r.Case, func(t *testing.T) { w.refused(t, r) })
		}
	})
	t.Run("exec", func(t *testing.T) { w.execs(t, execs) })
}

// box makes one container of several rows, and looks at it.
func (w *world) box(t *testing.T, name string, rows []Row) {
	var asks []string
	for _, r := range rows {
		if r.Ask != "" && !slices.Contains(asks, r.Ask) {
			asks = append(asks, r.Ask)
		}
	}
	s := w.spec(asks)
	base, _, _ := strings.Cut(name, ":")
	bases[base](s)
	for _, r := range rows {
		if r.Set != nil {
			r.Set(s)
		}
	}
	pod := w.pod()
	first := w.first(t, pod, base)
	if base == "agent" {
		w.told = testcontainer.NewAgent(t, filepath.Join(w.bundle, "agent"), func(int) bool { return true }).States
	}
	w.write(t, s, first)
	w.log.clear()
	m, err := w.create(t, pod, "c1", base == "terminal")
	must(t, err)
	check := func(r Row, got string, err error) {
		if err != nil || got != r.Want {
			t.Errorf("%s (%s): %s%s: %q (%v), want %q", r.Field, r.Case, r.Ask, r.Look, got, err, r.Want)
		}
	}
	early := func(r Row) bool { return strings.HasPrefix(r.Look, "before") || strings.HasPrefix(r.Look, "cpus") }
	for _, r := range rows {
		if early(r) {
			got, err := m.look(t.Context(), r.Look, r.Want, first)
			check(r, got, err)
		}
	}
	must(t, m.Start(t.Context()))
	got := answers(t, m.out)
	if base == "hooks" { // the last of them run then
		must(t, m.Delete(t.Context()))
	}
	for _, r := range rows {
		switch {
		case early(r):
		case r.Ask != "":
			check(r, got[r.Ask], nil)
		default:
			got, err := m.look(t.Context(), r.Look, r.Want, first)
			check(r, got, err)
		}
	}
	if t.Failed() {
		t.Log("logged:", strings.Join(w.log.since(), "; "))
	}
}

// first starts the other container that one of the base "second" has in its pod, and
// returns the folder of its namespaces.
func (w *world) first(t *testing.T, pod *runtime.Pod, base string) string {
	t.Helper()
	if base != "second" {
		return "/"
	}
	s := w.spec(nil)
	s.Linux.CgroupsPath += "-first"
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "time"})
	w.write(t, s, "")
	m, err := w.create(t, pod, "first", false)
	must(t, err)
	must(t, m.Start(t.Context()))
	return fmt.Sprintf("/proc/%d/ns/", m.pid)
}

// In errors: which process it was, and where the container's cgroup is.
var (
	pids       = regexp.MustCompile(`_setattr\(\d+`)
	cgroupPath = regexp.MustCompile(` \S*` + testCgroup + `/\d+/`)
)

// refused tries a row whose container is not to be.
func (w *world) refused(t *testing.T, r Row) {
	s := w.spec(nil)
	pod := w.pod()
	base, _, _ := strings.Cut(r.Box, ":")
	if base == "" {
		base = "system"
	}
	bases[base](s)
	r.Set(s)
	first := w.first(t, pod, base)
	w.write(t, s, first)
	m, err := w.create(t, pod, "c1", false)
	if err == nil {
		err = m.Start(t.Context())
	}
	if err == nil {
		if r.Want == "" {
			t.Fatalf("it was made; want an error: %s", r.Refused+r.Fails)
		}
		got, err := m.look(t.Context(), r.Look, r.Want, first)
		if err != nil || got != r.Want {
			t.Errorf("%s: %q (%v), want %q", r.Look, got, err, r.Want)
		}
		return
	}
	got := err.Error()
	if base == "second" {
		got = strings.ReplaceAll(got, first, firstNS)
	}
	got = strings.ReplaceAll(got, w.bundle+"/", "")
	got = pids.ReplaceAllString(got, "_setattr(PID")
	got = cgroupPath.ReplaceAllString(got, " CGROUP/")
	if !slices.Contains(strings.Split(r.Refused+r.Fails, "\n"), got) {
		t.Errorf("error\n%s\nwant\n%s", got, r.Refused+r.Fails)
	}
	if left, _ := filepath.Glob(filepath.Join(w.cfg.StateDir, "containers/*/c1.json")); m == nil && len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// execs tries the rows of further processes, all in one container.
func (w *world) execs(t *testing.T, rows []Row) {
	s := w.spec(nil)
	bases["exec"](s)
	w.write(t, s, "")
	m, err := w.create(t, w.pod(), "c1", false)
	must(t, err)
	must(t, m.Start(t.Context()))
	for i, r := range rows {
		t.Run(r.Field+" "+r.Case, func(t *testing.T) {
			p := &specs.Process{Args: []string{"/bin/" + inside.Name, r.Ask}, Cwd: "/", Env: []string{"PATH=/bin"}, Capabilities: &specs.LinuxCapabilities{}}
			r.Exec(p)
			outR, outW, err := os.Pipe()
			must(t, err)
			defer outR.Close()
			proc, err := m.Exec(t.Context(), runtime.ExecRequest{ID: fmt.Sprint("e", i), Process: p, Stdio: runtime.Stdio{Stdout: outW, Stderr: outW}})
			outW.Close()
			must(t, err)
			if got := answers(t, outR)[r.Ask]; got != r.Want {
				t.Errorf("%s: %q, want %q", r.Ask, got, r.Want)
			}
			if _, err := proc.Wait(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}
