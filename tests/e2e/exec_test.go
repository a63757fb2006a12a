// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// background starts an exec that the container's end ends.
func (h *host) background(t *testing.T, task containerd.Task, args ...string) (containerd.Process, <-chan containerd.ExitStatus) {
	t.Helper()
	ctx := background(t)
	p := &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}}
	proc, err := task.Exec(ctx, fmt.Sprintf("x%d", count.Add(1)), p, cio.NullIO)
	if err != nil {
		t.Fatal(err)
	}
	return proc, started(t, proc)
}

// TestExecStreams: an exec's streams are three, and its stdin's end is seen.
func TestExecStreams(t *testing.T) {
	all(t, func(t *testing.T, h *host) {
		ctx := background(t)
		task, _ := h.sleeper(t)
		var out, errOut output
		in := strings.NewReader("typed")
		p := &specs.Process{Args: []string{"sh", "-c", "cat; echo oops >&2"}, Cwd: "/", Env: []string{"PATH=/bin"}}
		proc, err := task.Exec(ctx, "streams", p, cio.NewCreator(cio.WithStreams(in, &out, &errOut)))
		if err != nil {
			t.Fatal(err)
		}
		exit := started(t, proc)
		for in.Len() > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if err := proc.CloseIO(ctx, containerd.WithStdinCloser); err != nil {
			t.Fatal(err)
		}
		wait(t, exit)
		proc.IO().Wait()
		if _, err := proc.Delete(ctx); err != nil {
			t.Error(err)
		}
		if out.String() != "typed" || errOut.String() != "oops\n" {
			t.Errorf("stdout %q, stderr %q", out.String(), errOut.String())
		}
	})
}

// TestExecErrors: what cannot be is refused by the error that clients look for.
func TestExecErrors(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		ctx := background(t)
		task, exit := h.sleeper(t)
		proc, ended := h.background(t, task, "sleep", "1000")
		if _, err := proc.Delete(ctx); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("delete of a running exec: %v", err)
		}
		if _, err := task.Exec(ctx, proc.ID(), &specs.Process{Args: []string{"true"}, Cwd: "/"}, cio.NullIO); !errdefs.IsAlreadyExists(err) {
			t.Errorf("an exec of the same name: %v", err)
		}
		if err := proc.Kill(ctx, syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if status := wait(t, ended); status != 143 {
			t.Errorf("exit status %d, want 143", status)
		}
		if _, err := proc.Delete(ctx); err != nil {
			t.Error(err)
		}
		for n := range 12 {
			cwd := fmt.Sprintf("/proc/self/fd/%d", n)
			out, _ := h.exec(t, task, func(p *specs.Process) { p.Cwd = cwd }, "pwd")
			if !strings.Contains(out, "process.cwd is "+strconv.Quote(cwd)) {
				t.Errorf("working directory %s (CVE-2024-21626): %q", cwd, out)
			}
		}
		kill(t, task, exit, syscall.SIGKILL)
		if _, err := task.Exec(ctx, "late", &specs.Process{Args: []string{"true"}, Cwd: "/"}, cio.NullIO); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("exec in a container that has ended: %v", err)
		}
	})
}

// TestExecsAtOnce: many execs, each with the output and the status of its own.
func TestExecsAtOnce(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		task, _ := h.sleeper(t)
		var wg sync.WaitGroup
		for n := range 40 {
			wg.Go(func() {
				out, status := h.exec(t, task, nil, "sh", "-c", fmt.Sprintf("echo %d; exit %d", n, n))
				if out != fmt.Sprintf("%d\n", n) || status != uint32(n) {
					t.Errorf("exec %d: exit status %d, output %q", n, status, out)
				}
			})
		}
		wg.Wait()
	})
}

// TestExecExitsBeforeInit: when init ends, its execs' exits are told of first.
func TestExecExitsBeforeInit(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		ctx, cancel := context.WithCancel(background(t))
		defer cancel()
		task, exit := h.sleeper(t)
		proc, _ := h.background(t, task, "sleep", "1000")
		stream, errs := h.subscribe(ctx, t, `topic=="/tasks/exit"`)
		kill(t, task, exit, syscall.SIGKILL)
		var got []string
		for len(got) < 2 {
			select {
			case e := <-stream:
				v, err := typeurl.UnmarshalAny(e.Event)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, v.(*events.TaskExit).ID)
			case err := <-errs:
				t.Fatal(err)
			case <-time.After(20 * time.Second * patience()):
				t.Fatalf("exits of %v, and no more", got)
			}
		}
		if got[0] != proc.ID() || got[1] != task.ID() {
			t.Errorf("exits of %v, want those of %s and %s", got, proc.ID(), task.ID())
		}
	})
}
