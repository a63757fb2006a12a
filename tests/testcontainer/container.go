// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime"
	"sysbox/runtime/state"
	"sysbox/tests/pace"
)

// Container is a container of one test, which is deleted when the test ends.
type Container struct {
	*runtime.Container
	Pod    *Pod
	Bundle string
	// RootUID is the user of the host that the container's root is.
	RootUID uint32
}

// Create makes a container, which is not started.
func Create(t testing.TB, p *Pod, r runtime.CreateRequest) *Container {
	t.Helper()
	c, err := p.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background()); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
	return &Container{Container: c, Pod: p, Bundle: r.Bundle, RootUID: rootUID(t, c.Init().Pid())}
}

// Started makes and starts a container of [Busybox] in a pod of its own. Without args its init
// sleeps.
func Started(t testing.TB, change func(*specs.Spec), args ...string) *Container {
	t.Helper()
	return NewPod(t).Started(t, change, args...)
}

// Started makes and starts a container of [Busybox]. Without args its init sleeps.
func (p *Pod) Started(t testing.TB, change func(*specs.Spec), args ...string) *Container {
	t.Helper()
	if len(args) == 0 {
		args = []string{"sleep", "1000"}
	}
	c := Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: Busybox(t, change, args...)})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// Run runs a container of [Busybox], in a pod of its own, to its end, and returns what it wrote
// and its exit status.
func Run(t testing.TB, change func(*specs.Spec), args ...string) (out string, status int) {
	t.Helper()
	return NewPod(t).Run(t, Busybox(t, change, args...))
}

// Run runs a container to its end, and returns what it wrote and its exit status.
func (p *Pod) Run(t testing.TB, bundle string) (out string, status int) {
	t.Helper()
	w, text := Pipe(t)
	c := Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exit := Wait(t, c.Init())
	return text(), exit.Status
}

// Wait waits until a process has ended.
func Wait(t testing.TB, p *runtime.Process) runtime.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute*pace.Patience())
	defer cancel()
	exit, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

// Executed starts a process in the container. The text is what it has written when all who write
// have ended.
func (c *Container) Executed(t testing.TB, process *specs.Process) (p *runtime.Process, text func() string) {
	t.Helper()
	w, text := Pipe(t)
	p, err := c.Exec(t.Context(), runtime.ExecRequest{Process: process, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err != nil {
		t.Fatal(err)
	}
	return p, text
}

// Command is a process of the container's root, with the PATH of [Busybox].
func Command(args ...string) *specs.Process {
	return &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}}
}

// Script runs a shell's script in the container and returns what it printed.
func (c *Container) Script(t testing.TB, script string) string {
	t.Helper()
	p, text := c.Executed(t, Command("sh", "-c", script))
	Wait(t, p)
	return text()
}

// Record reads the container's record from the disk.
func (c *Container) Record(t testing.TB) state.Record {
	t.Helper()
	name, err := state.Path(c.Pod.Config.Dirs(), Namespace, c.ID())
	if err != nil {
		t.Fatal(err)
	}
	r, err := state.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	return *r
}

// rootUID is the host's user that root is in the user namespace of a process.
func rootUID(t testing.TB, pid int) uint32 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "0" {
			id, err := strconv.ParseUint(f[1], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			return uint32(id)
		}
	}
	t.Fatalf("root is not mapped: %s", b)
	return 0
}
