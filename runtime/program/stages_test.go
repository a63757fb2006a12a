// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// staged is a program whose stage 2 makes these calls.
func staged(calls ...Call) Program {
	calls[0].Label = "stage 2"
	return append(Program{Fork("pid", "stage 2", 0, -1), Report("report the pid", 1, "pid"), Exit(0)}, calls...)
}

var (
	fails  = Call{Name: "fail", Field: "process.cwd", Nr: unix.SYS_CHDIR, Args: []Arg{Str("/no such directory")}}
	waits  = Call{Name: "wait", Nr: unix.SYS_READ, Args: []Arg{Int(0), &Buffer{"byte", 1}, Int(1)}}
	killed = Call{Name: "end", Nr: unix.SYS_KILL, Args: []Arg{Int(0), Int(int64(unix.SIGKILL))}}
)

func startStages(t *testing.T, deadline time.Duration, p Program) (*Stages, *os.File) {
	t.Helper()
	r, w := pipe(t)
	s, err := StartStages(append(Program{{Name: "have a group", Nr: unix.SYS_SETSID}}, p...), Options{Files: []File{{r, 0}}}, 1, deadline)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, w
}

func TestStages(t *testing.T) {
	for _, c := range []struct {
		name string
		p    Program
		want func(s *Stages, err error) bool
	}{
		{"report and end", staged(Report("say", 2, ""), Exit(3)), func(_ *Stages, err error) bool { return err == nil }},
		{"a step that fails", staged(fails, Report("say", 2, "")), func(s *Stages, err error) bool {
			var step *StepError
			return errors.As(err, &step) && step.Step.Field == "process.cwd" && s.Failed() == step
		}},
		{"an end without the report", staged(Exit(0)), func(_ *Stages, err error) bool { return errors.Is(err, ErrEnded) }},
		{"killed", staged(killed, Report("say", 2, "")), func(_ *Stages, err error) bool { return errors.Is(err, ErrEnded) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := startStages(t, time.Minute, c.p)
			second, err := s.Stage2()
			if err == nil {
				_, err = s.Expect(2)
				if _, failed := Reap(second, soon()); failed != nil {
					t.Error(failed)
				}
			} else if c.name != "killed" { // by the group's signal, before it could report the pid
				t.Fatal(err)
			}
			if !c.want(s, err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// What does not go on is told of at the deadline.
func TestStagesDeadline(t *testing.T) {
	s, w := startStages(t, 50*time.Millisecond, staged(waits, Report("say", 2, "")))
	s.Deadline = time.Minute
	second, err := s.Stage2()
	if err != nil {
		t.Fatal(err)
	}
	s.Deadline = 50 * time.Millisecond
	if _, err := s.Expect(2); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	w.Close()
	s.Deadline = time.Minute
	if _, err := s.Expect(2); err != nil {
		t.Errorf("once it goes on: %v", err)
	}
	if status, err := s.Finish(second, soon(), time.Minute); err != nil || status.ExitCode() != 0 {
		t.Errorf("it ended with %+v, %v", status, err)
	}
}

// A process that does not end is killed at the deadline.
func TestFinishKills(t *testing.T) {
	s, _ := startStages(t, time.Minute, staged(waits))
	second, err := s.Stage2()
	if err != nil {
		t.Fatal(err)
	}
	status, err := s.Finish(second, time.Now(), time.Minute)
	if err != nil || status.Signal != unix.SIGKILL {
		t.Errorf("it ended with %+v, %v", status, err)
	}
}
