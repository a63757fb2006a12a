// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"sysbox/runtime"
	"sysbox/tests/streams"
)

// patience ends a test that would hang; no test's outcome depends on it.
const patience = 20 * time.Second

// A moment is one of an exec's life. Each is reached from the one before, and forced: the life
// does not go on until the test lets it.
type moment int

const (
	added   moment = iota // Exec has answered, Start was not called
	opening               // Start is under way, its streams are being opened
	making                // Start is under way, the runtime makes the process
	going                 // Start has answered
	exited                // the process has ended
)

func (m moment) String() string {
	return [...]string{"added", "opening", "making", "running", "exited"}[m]
}

// A life is that of an exec whose process hands its stdin on to its stdout, and ends with 0.
type life struct {
	*rig
	in, out string      // FIFOs
	made    chan *life  // the runtime is in Exec
	goOn    chan func() // lets it go on, after the function
	started chan error  // Start's answer
	proc    *fakeProcess
	copied  chan string // what the process read until the end of its stdin
	tty     *os.File    // the terminal's slave
}

func newLife(t *testing.T, stdin, terminal bool) *life {
	t.Helper()
	l := &life{
		rig: newRig(t), out: streams.FIFO(t, "out"),
		made: make(chan *life, 1), goOn: make(chan func()), started: make(chan error, 1),
		copied: make(chan string, 1),
	}
	if stdin {
		l.in = streams.FIFO(t, "in")
	}
	l.create("box")
	l.start("box", "")
	l.pod.onExec = func(p *fakeProcess, r runtime.ExecRequest) {
		l.proc = p
		var stdin *os.File
		if terminal {
			master, slave := streams.Terminal(t)
			p.console, l.tty = master, slave()
		} else if r.Stdio.Stdin != nil {
			fd, err := unix.FcntlInt(r.Stdio.Stdin.Fd(), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				t.Error(err)
			}
			stdin = os.NewFile(uintptr(fd), "stdin")
		}
		go l.cat(p, stdin)
		l.made <- l
		(<-l.goOn)()
	}
	_, err := l.Exec(t.Context(), &api.ExecProcessRequest{
		ID: "box", ExecID: "e", Stdin: l.in, Stdout: l.out, Terminal: terminal,
		Spec: &anypb.Any{Value: []byte(`{"args":["cat"],"cwd":"/"}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// cat is the process.
func (l *life) cat(p *fakeProcess, stdin *os.File) {
	if stdin == nil {
		return
	}
	defer stdin.Close()
	b, _ := io.ReadAll(stdin)
	l.copied <- string(b)
	p.end(0)
}

// to brings the exec to a moment.
func (l *life) to(m moment) {
	l.t.Helper()
	if m >= opening {
		go func() {
			_, err := l.Start(context.WithoutCancel(l.t.Context()), &api.StartRequest{ID: "box", ExecID: "e"})
			l.started <- err
		}()
		// Start waits for a reader of stdout; what comes before that is done when
		// stdin has a reader.
		if m == opening {
			l.until("stdin is open", func() bool {
				f, err := os.OpenFile(l.in, os.O_WRONLY|unix.O_NONBLOCK, 0)
				if err == nil {
					f.Close()
				}
				return err == nil
			})
		}
	}
	if m >= making {
		l.read()
		l.within("the runtime's Exec", func() { <-l.made })
	}
	if m >= going {
		l.letStart()
	}
	if m >= exited {
		l.proc.end(5)
		l.wait("box", "e")
	}
}

// letStart lets the runtime's Exec go on, and Start answer.
func (l *life) letStart() {
	l.t.Helper()
	l.within("Start's answer", func() {
		l.goOn <- func() {}
		if err := <-l.started; err != nil {
			l.t.Error(err)
		}
	})
}

// read is the reader of stdout that Start waits for.
func (l *life) read() {
	f, err := os.OpenFile(l.out, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { f.Close() })
}

// proceed lets a Start that is under way come to its answer.
func (l *life) proceed(m moment) {
	l.t.Helper()
	switch m {
	case added:
		l.to(going)
	case opening:
		l.read()
		l.within("the runtime's Exec", func() { <-l.made })
		fallthrough
	case making:
		l.letStart()
	}
}

// asked makes a call that may have to wait, and returns where its answer will be.
func asked(call func() error) <-chan error {
	answer := make(chan error, 1)
	go func() { answer <- call() }()
	return answer
}

func (l *life) within(what string, f func()) {
	l.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		l.t.Fatalf("not within %v: %s", patience, what)
	}
}

func (l *life) until(what string, f func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func (l *life) closeIO() {
	l.t.Helper()
	if _, err := l.CloseIO(l.t.Context(), &api.CloseIORequest{ID: "box", ExecID: "e", Stdin: true}); err != nil {
		l.t.Error(err)
	}
}

// TestCloseIOAtEachMoment: the process's stdin ends, after all that was written, whenever the
// client says so, and however often.
func TestCloseIOAtEachMoment(t *testing.T) {
	for m := added; m <= exited; m++ {
		for times := 1; times <= 2; times++ {
			for _, client := range []string{"has never opened stdin", "has left", "leaves later"} {
				if m == added && client == "has left" {
					continue // what it had written would have gone with it
				}
				t.Run(fmt.Sprintf("%v, %d times, its client %s", m, times, client), func(t *testing.T) {
					l := newLife(t, true, false)
					l.to(m)
					leave, want := func() {}, ""
					if client != "has never opened stdin" && m != exited {
						// Without a reader yet, a client waits in its open; this one does not.
						w, err := os.OpenFile(l.in, os.O_RDWR|unix.O_NONBLOCK, 0)
						if err != nil {
							t.Fatal(err)
						}
						want = "typed"
						fmt.Fprint(w, want)
						leave = func() { w.Close() }
					}
					if client == "has left" {
						leave()
					}
					for range times {
						l.closeIO()
					}
					l.proceed(m)
					leave()
					l.within("the end of stdin", func() {
						if got := <-l.copied; got != want {
							t.Errorf("the process read %q, want %q", got, want)
						}
					})
				})
			}
		}
	}
}

// TestCloseIOWithoutStdin: there's nothing to be closed, and it is no fault to ask.
func TestCloseIOWithoutStdin(t *testing.T) {
	for _, m := range []moment{added, making, going, exited} {
		t.Run(m.String(), func(t *testing.T) {
			l := newLife(t, false, false)
			l.to(m)
			l.closeIO()
			l.proceed(m)
			l.proc.end(0)
			l.wait("box", "e")
		})
	}
}

// TestKillAtEachMoment: an exec that was not started cannot be killed, and may be started
// later; one that is being started dies as soon as it is there.
func TestKillAtEachMoment(t *testing.T) {
	for m := added; m <= exited; m++ {
		t.Run(m.String(), func(t *testing.T) {
			l := newLife(t, true, false)
			l.to(m)
			answer := asked(func() error {
				_, err := l.Kill(context.WithoutCancel(t.Context()), &api.KillRequest{ID: "box", ExecID: "e", Signal: 9})
				return err
			})
			if m == opening || m == making {
				// It waits, rather than to say that there is nothing to kill.
				select {
				case err := <-answer:
					t.Fatalf("killed what is not there yet: %v", err)
				case <-time.After(50 * time.Millisecond):
				}
			}
			if m == added {
				wantCode(t, <-answer, errdefs.ErrFailedPrecondition, "kill before the start")
			}
			l.proceed(m)
			switch m {
			case added: // the kill was not for later
				l.proc.end(0)
				if w := l.wait("box", "e"); w.ExitStatus != 0 {
					t.Errorf("status is %d", w.ExitStatus)
				}
			case exited:
				wantCode(t, <-answer, errdefs.ErrNotFound, "kill after the exit")
			default:
				l.within("Kill's answer", func() {
					if err := <-answer; err != nil {
						t.Error(err)
					}
				})
				if w := l.wait("box", "e"); w.ExitStatus != 137 {
					t.Errorf("status is %d", w.ExitStatus)
				}
			}
		})
	}
}

// TestKillOfAStartThatFails: there's nothing to be killed, and Kill says so.
func TestKillOfAStartThatFails(t *testing.T) {
	l := newLife(t, true, false)
	l.to(making)
	answer := asked(func() error {
		_, err := l.Kill(context.WithoutCancel(t.Context()), &api.KillRequest{ID: "box", ExecID: "e", Signal: 9})
		return err
	})
	l.goOn <- func() { l.pod.execErr = errors.New("exec /nothing: no such file") }
	l.within("both answers", func() {
		if err := <-l.started; err == nil {
			t.Error("the start succeeded")
		}
		wantCode(t, <-answer, errdefs.ErrNotFound, "kill of what never ran")
	})
}

// TestKillerLeaves: who kills an exec that is being started need not wait for it.
func TestKillerLeaves(t *testing.T) {
	l := newLife(t, true, false)
	l.to(making)
	ctx, leave := context.WithCancel(t.Context())
	answer := asked(func() error { _, err := l.Kill(ctx, &api.KillRequest{ID: "box", ExecID: "e", Signal: 9}); return err })
	leave()
	l.within("Kill's answer", func() {
		if err := <-answer; err == nil {
			t.Error("a signal was sent to a process that was not there")
		}
	})
	l.proceed(making)
}

// TestResizeAtEachMoment: the terminal has the size that was asked for last.
func TestResizeAtEachMoment(t *testing.T) {
	for m := added; m <= exited; m++ {
		t.Run(m.String(), func(t *testing.T) {
			l := newLife(t, true, true)
			l.to(m)
			for _, width := range []uint32{90, 100} {
				_, err := l.ResizePty(t.Context(), &api.ResizePtyRequest{ID: "box", ExecID: "e", Width: width, Height: 30})
				if m == exited {
					wantCode(t, err, errdefs.ErrFailedPrecondition, "resize after the exit")
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if m == exited {
				return
			}
			l.proceed(m)
			size, err := unix.IoctlGetWinsize(int(l.tty.Fd()), unix.TIOCGWINSZ)
			if err != nil || size.Col != 100 || size.Row != 30 {
				t.Errorf("size is %+v, %v; want 100 by 30", size, err)
			}
		})
	}
}

// TestDeleteAtEachMoment: what runs cannot be deleted, and Delete waits for a start that is
// under way to know.
func TestDeleteAtEachMoment(t *testing.T) {
	for m := added; m <= exited; m++ {
		t.Run(m.String(), func(t *testing.T) {
			l := newLife(t, true, false)
			l.to(m)
			answer := asked(func() error {
				_, err := l.Delete(context.WithoutCancel(t.Context()), &api.DeleteRequest{ID: "box", ExecID: "e"})
				return err
			})
			if m == opening || m == making {
				l.proceed(m)
			}
			l.within("Delete's answer", func() {
				err := <-answer
				if m == added || m == exited {
					if err != nil {
						t.Error(err)
					}
					return
				}
				wantCode(t, err, errdefs.ErrFailedPrecondition, "delete of a running exec")
			})
			if m != added {
				return
			}
			_, err := l.Start(t.Context(), &api.StartRequest{ID: "box", ExecID: "e"})
			wantCode(t, err, errdefs.ErrNotFound, "start after the delete")
		})
	}
}
