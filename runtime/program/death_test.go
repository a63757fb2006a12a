// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onThread runs f on a thread of its own. end ends the thread and returns when it has.
func onThread(f func()) (end func()) {
	tid, done := make(chan int), make(chan struct{})
	var run func()
	run = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the runtime parks the first thread for ever
			go run()
			<-done
			runtime.UnlockOSThread()
			return
		}
		f()
		tid <- unix.Gettid()
		<-done
	}
	go run()
	path := fmt.Sprintf("/proc/self/task/%d", <-tid)
	return func() {
		close(done)
		for {
			if _, err := os.Stat(path); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// wait is a call that returns when the write end of descriptor 0 is closed.
var wait = Call{Name: "wait", Nr: unix.SYS_READ, Args: []Arg{Int(0), &Buffer{"b", 1}, Int(1)}, Want: Equals(1)}

// The facts that the comment of Prelude states, measured on Linux 6.18: the signal
// comes at the end of the thread that called Start, for the program's process and, where
// it asks again, for its CLONE_PARENT sibling.
func TestParentDeathIsTheThreads(t *testing.T) {
	sibling := func(begin ...Call) Program {
		p := append(Prelude(os.Getpid()), Fork("pid", "child", 0, -1), Report("", 1, "pid"), Exit(0))
		begin[0].Label = "child"
		return append(append(p, begin...), Report("", 2, ""), wait)
	}
	get := &Buffer{"signal", 4}
	for _, row := range []struct {
		name    string
		program Program
		fork    bool
		signal  unix.Signal // 0: it lives
		root    bool        // it needs root
	}{
		{"process", append(Prelude(os.Getpid()), Report("", 2, ""), wait), false, unix.SIGKILL, false},
		{"process that never asked", Program{Report("", 2, ""), wait}, false, 0, false},
		{"sibling that asks", sibling(ParentDeath(unix.SIGKILL)), true, unix.SIGKILL, false},
		{"sibling that does not ask", sibling(Call{Nr: unix.SYS_GETPID}), true, 0, false},
		{"sibling that changes its uid", sibling(
			ParentDeath(unix.SIGKILL),
			Call{Nr: unix.SYS_SETRESUID, Args: []Arg{Int(65534), Int(65534), Int(65534)}},
			Call{Nr: unix.SYS_PRCTL, Args: []Arg{Int(unix.PR_GET_PDEATHSIG), get}},
		), true, 0, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.root && os.Getuid() != 0 {
				t.Skip("becomes another user, which takes root")
			}
			r, w := pipe(t)
			var c *Child
			end := onThread(func() {
				var err error
				if c, err = Start(row.program, Options{Files: []File{{r, 0}}}); err != nil {
					t.Error(err)
				}
			})
			if c == nil {
				end()
				return
			}
			defer c.Close()
			p := c.Process
			told := []uint32{2} // that it has asked for its signal
			if row.fork {
				told = append(told, 1) // its pid; the two come in any order
			}
			for range told {
				r, err := c.Next(soon())
				if err != nil {
					t.Fatal(err)
				}
				if r.Tag == 1 {
					if p, err = Adopt(int(r.Value)); err != nil {
						t.Fatal(err)
					}
					defer p.Close()
				}
			}
			if row.fork {
				exit(t, c.Process, 0)
			}
			end()
			if _, err := w.Write([]byte("x")); err != nil { // exit 0, if it lives
				t.Error(err)
			}
			s, err := p.WaitUntil(soon())
			if err != nil || s.Signal != row.signal || s.Code != 0 {
				t.Errorf("ended with %+v, %v; want signal %d", s, err, row.signal)
			}
		})
	}
}

// A waiting child whose parent has gone ends by itself: end of file.
func TestWaitEndsWithThePipe(t *testing.T) {
	r, w := pipe(t)
	c := start(t, Program{wait}, File{r, 0})
	w.Close()
	_, err := c.Next(soon())
	var step *StepError
	if !errors.As(err, &step) || step.Step.Name != "wait" {
		t.Errorf("got %v", err)
	}
	exit(t, c.Process, 126)
}
