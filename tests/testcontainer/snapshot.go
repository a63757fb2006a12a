// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime"
	"sysbox/runtime/config"
)

// Docker is a directory for which containers get storage.
const Docker = "/var/lib/docker"

// Snapshot is a root of overlay layers, as a snapshotter gives it to each task of a container.
// The lower one is that of [Busybox].
type Snapshot struct {
	// Dir has all the others.
	Dir, Lower, Upper, Work string

	said []func() string // of the pods of tasks
}

// NewSnapshot makes one whose upper layer is empty.
func NewSnapshot(t testing.TB) *Snapshot {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	bundle := Busybox(t, nil, "true")
	s := &Snapshot{Dir: bundle, Lower: bundle + "/lower", Upper: bundle + "/fs", Work: bundle + "/work"}
	if err := os.Rename(bundle+"/rootfs", s.Lower); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{s.Upper, s.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Task is what Create gets for a task on the snapshot, which runs a script.
func (s *Snapshot) Task(t testing.TB, change func(*specs.Spec), script string) runtime.CreateRequest {
	t.Helper()
	bundle := Busybox(t, change, "sh", "-c", script)
	return runtime.CreateRequest{ID: "c1", Bundle: bundle, Rootfs: []runtime.RootfsMount{{Type: "overlay", Source: "overlay", Options: []string{
		"index=off", "lowerdir=" + s.Lower, "upperdir=" + s.Upper, "workdir=" + s.Work,
	}}}}
}

// View is what Create gets for a root that nobody may write.
func (s *Snapshot) View(t testing.TB, script string) runtime.CreateRequest {
	t.Helper()
	r := s.Task(t, nil, script)
	r.Rootfs[0].Options = []string{"index=off", "lowerdir=" + s.Upper + ":" + s.Lower}
	return r
}

// Start starts a task on the snapshot, in a pod with other ids than the tasks before it. Out is
// what it has written when it has ended.
func (s *Snapshot) Start(t testing.TB, change func(*specs.Spec), script string, configure ...func(*config.Config)) (c *Container, out func() string) {
	t.Helper()
	w, out := Pipe(t)
	r := s.Task(t, change, script)
	r.Stdio = runtime.Stdio{Stdout: w, Stderr: w}
	p := NewPod(t, configure...)
	s.said = append(s.said, p.Said)
	c = Create(t, p, r)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, out
}

// Said is what the pods of the tasks that [Snapshot.Start] and [Snapshot.Life] started have logged.
func (s *Snapshot) Said() string {
	var all strings.Builder
	for _, f := range s.said {
		all.WriteString(f())
	}
	return all.String()
}

// Life runs a task on the snapshot from its Create to its Delete, and returns what it wrote.
func (s *Snapshot) Life(t testing.TB, change func(*specs.Spec), script string) string {
	t.Helper()
	c, out := s.Start(t, change, script)
	Wait(t, c.Init())
	if err := c.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out()
}
