// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/peers"
)

// shell starts a script in a running container, at a terminal if one is
// wanted.
func (h *host) shell(t *testing.T, task containerd.Task, tty bool, script string, opts ...cio.Opt) (containerd.Process, <-chan containerd.ExitStatus) {
	t.Helper()
	ctx := background(t)
	p := &specs.Process{Terminal: tty, Args: []string{"sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}}
	if tty {
		opts = append(opts, cio.WithTerminal)
	}
	proc, err := task.Exec(ctx, fmt.Sprintf("x%d", count.Add(1)), p, cio.NewCreator(opts...))
	if err != nil {
		t.Fatal(err)
	}
	return proc, started(t, proc)
}

// until calls f again and again until it is content.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second * patience()); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %d s: %s", 30*patience(), what)
		}
	}
}

func TestExecTerminal(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		ctx := background(t)
		task, _ := h.sleeper(t)
		var out output
		in := strings.NewReader("typed\n")
		proc, exit := h.shell(t, task, true, file("terminal-exec.sh"),
			cio.WithStreams(in, &out, nil))
		if err := proc.Resize(ctx, 101, 33); err != nil {
			t.Fatal(err)
		}
		if status := wait(t, exit); status != 6 {
			t.Errorf("exit status %d, want 6", status)
		}
		proc.IO().Wait()
		if got := strings.ReplaceAll(out.String(), "\r", ""); got != "typed\ngot typed\nerr\n" {
			t.Errorf("output %q", got)
		}
		if _, err := proc.Delete(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestHangUp: what a session leaves behind is told that the terminal has gone.
func TestHangUp(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		task, _ := h.sleeper(t)
		var out output
		proc, exit := h.shell(t, task, true, `sh -c 'trap "echo hup >/hup; exit" HUP; echo >/ready; while :; do sleep 0.05; done' &
			until [ -e /ready ]; do sleep 0.05; done; exit 4`, cio.WithStreams(nil, &out, nil))
		if status := wait(t, exit); status != 4 {
			t.Errorf("exit status %d, want 4", status)
		}
		if _, err := proc.Delete(background(t)); err != nil {
			t.Error(err)
		}
		until(t, "SIGHUP arrives", func() bool {
			out, _ := h.exec(t, task, nil, "cat", "/hup")
			return out == "hup\n"
		})
	})
}

// TestHeldTerminal: a process that keeps the terminal open delays the exec's
// removal, not its exit, and not for ever.
func TestHeldTerminal(t *testing.T) {
	h := on(t, peers.Newest)
	task, _ := h.sleeper(t)
	var out output
	proc, exit := h.shell(t, task, true, `sh -c 'trap "" HUP; echo >/deaf; exec sleep 1000' & until [ -e /deaf ]; do sleep 0.05; done; exit 5`, cio.WithStreams(nil, &out, nil))
	if status := wait(t, exit); status != 5 {
		t.Errorf("exit status %d, want 5", status)
	}
	if _, err := proc.Delete(background(t)); err != nil {
		t.Error(err)
	}
}

// TestExecStdin: input arrives whole, and its end too.
func TestExecStdin(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		ctx := background(t)
		task, _ := h.sleeper(t)
		var out output
		in := &counted{Reader: strings.NewReader(strings.Repeat("0123456789abcdef", 1<<14)), end: make(chan struct{})}
		proc, exit := h.shell(t, task, false, "wc -c", cio.WithStreams(in, &out, &out))
		<-in.end
		if err := proc.CloseIO(ctx, containerd.WithStdinCloser); err != nil {
			t.Fatal(err)
		}
		if status := wait(t, exit); status != 0 {
			t.Errorf("exit status %d", status)
		}
		proc.IO().Wait()
		if strings.TrimSpace(out.String()) != "262144" {
			t.Errorf("wc saw %q", out.String())
		}
		if _, err := proc.Delete(ctx); err != nil {
			t.Error(err)
		}
	})
}

// counted tells when it has been read to its end.
type counted struct {
	io.Reader // its other methods would not call Read
	end       chan struct{}
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if err != nil {
		close(c.end)
	}
	return n, err
}

// TestStdinThatWaits: input as large as a pipe has ended before its reader
// begins; it arrives nevertheless, and its end too.
func TestStdinThatWaits(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		ctx := background(t)
		task, _ := h.sleeper(t)
		var out output
		in := &counted{Reader: strings.NewReader(strings.Repeat("x", 1<<16)), end: make(chan struct{})}
		proc, exit := h.shell(t, task, false, "until [ -e /go ]; do sleep 0.05; done; wc -c", cio.WithStreams(in, &out, &out))
		<-in.end
		if err := proc.CloseIO(ctx, containerd.WithStdinCloser); err != nil {
			t.Fatal(err)
		}
		h.exec(t, task, nil, "touch", "/go")
		if status := wait(t, exit); status != 0 {
			t.Errorf("exit status %d", status)
		}
		proc.IO().Wait()
		if strings.TrimSpace(out.String()) != "65536" {
			t.Errorf("wc saw %q", out.String())
		}
		if _, err := proc.Delete(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestCoveredTerminals: a container that mounts over its terminals does not choose the
// one that an exec gets: it is of the first devpts, or there is none.
func TestCoveredTerminals(t *testing.T) {
	h := on(t, peers.Newest)
	task, _ := h.sleeper(t)
	terminal := func() (string, uint32) {
		var out output
		proc, err := task.Exec(background(t), fmt.Sprintf("x%d", count.Add(1)), &specs.Process{Terminal: true, Args: []string{"tty"}, Cwd: "/", Env: []string{"PATH=/bin"}},
			cio.NewCreator(cio.WithStreams(nil, &out, nil), cio.WithTerminal))
		if err != nil {
			t.Fatal(err)
		}
		exit, err := proc.Wait(background(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := proc.Start(background(t)); err != nil {
			_, _ = proc.Delete(background(t))
			return err.Error(), 255
		}
		status := wait(t, exit)
		proc.IO().Wait()
		if _, err := proc.Delete(background(t)); err != nil {
			t.Error(err)
		}
		return out.String(), status
	}
	if out, status := h.exec(t, task, nil, "mount", "-t", "devpts", "-o", "newinstance", "devpts", "/dev/pts"); status != 0 {
		t.Fatalf("mount a devpts: %q", out)
	}
	if out, status := terminal(); status > 1 || strings.Contains(out, "EXDEV") {
		t.Errorf("below another devpts: %q, %d", out, status)
	}
	if out, status := h.exec(t, task, nil, "sh", "-c", "umount /dev/pts && mount --bind /dev/null /dev/pts/ptmx"); status != 0 {
		t.Fatalf("mount over ptmx: %q", out)
	}
	if out, status := terminal(); status != 255 || !strings.Contains(out, "cross-device") {
		t.Errorf("below /dev/null: %q, %d", out, status)
	}
}
