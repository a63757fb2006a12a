// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// Stages follows a program of two processes. [Start] makes stage 1. Stage 1 clones stage 2
// ([Fork], so that both are children of this process) and reports its pid. Both write to one
// pipe, so their reports and failed steps arrive in any order.
//
// Its methods must be called from one goroutine.
type Stages struct {
	// Deadline bounds each wait, because something in the container could stop or slow down a
	// process.
	Deadline time.Duration

	stage1 *Child
	pidTag uint32
	early  map[uint32]int32 // reports that came before they were expected
	failed *StepError       // a step that failed before anybody asked
}

// ErrEnded: the processes of a program have ended, or executed another file, without the report
// that was expected. A process that was killed leaves no other trace.
var ErrEnded = errors.New("the process ended before it reported")

// StartStages starts a program whose stage 1 reports the pid of stage 2 with the tag pidTag. See
// [Start] for the thread to call it from. The caller closes the result.
func StartStages(p Program, o Options, pidTag uint32, deadline time.Duration) (*Stages, error) {
	child, err := Start(p, o)
	if err != nil {
		return nil, err
	}
	return &Stages{Deadline: deadline, stage1: child, pidTag: pidTag, early: map[uint32]int32{}}, nil
}

// Close closes the report pipe. It ends no process.
func (s *Stages) Close() { _ = s.stage1.Close() }

// Stage2 returns stage 2 and reaps stage 1, which it kills if the pid does not come. It returns
// stage 2 even if one of its steps has failed already, because stage 2 must be reaped: a zombie
// would keep its pid namespace from ending. The caller waits for it and closes it.
func (s *Stages) Stage2() (*Process, error) {
	pid, err := s.Expect(s.pidTag)
	if err != nil {
		_ = s.stage1.Signal(syscall.SIGKILL)
	}
	if _, ended := s.stage1.WaitUntil(time.Now().Add(s.Deadline)); err == nil {
		err = ended
	}
	if err != nil {
		if s.failed != nil {
			err = s.failed
		}
		return nil, err
	}
	return Adopt(int(pid))
}

// Expect waits for a report and returns its value. Errors: *[StepError], [ErrEnded],
// os.ErrDeadlineExceeded.
func (s *Stages) Expect(tag uint32) (int32, error) {
	for {
		if v, ok := s.early[tag]; ok {
			return v, nil
		}
		if s.failed != nil && tag != s.pidTag { // the pid may come after a failure of stage 2
			return 0, s.failed
		}
		got, err := s.stage1.Next(time.Now().Add(s.Deadline))
		switch {
		case err == nil:
			s.early[got.Tag] = got.Value
		case errors.As(err, &s.failed):
		case errors.Is(err, io.EOF):
			return 0, ErrEnded
		default:
			return 0, err
		}
	}
}

// Executed waits until stage 2 has executed another file or has ended; nothing tells the two
// apart. Errors: *[StepError], os.ErrDeadlineExceeded.
func (s *Stages) Executed() error {
	if s.failed != nil {
		return s.failed
	}
	_, err := s.stage1.Next(time.Now().Add(s.Deadline))
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return errors.New("an unexpected report came after the last one")
	}
	return err
}

// Failed returns the step that failed, or nil if no record that was read says so.
func (s *Stages) Failed() *StepError { return s.failed }

// Finish waits until stage 2, which [Stages.Stage2] has returned, has ended, and returns how. At
// the deadline it kills stage 2. If stage 2 has not ended killGrace later, it waits in the kernel
// for a file system that does not answer. Then it is reaped in the background, and the error is
// os.ErrDeadlineExceeded. Stage 2 is closed in any case.
func (s *Stages) Finish(stage2 *Process, deadline time.Time, killGrace time.Duration) (Status, error) {
	for {
		_, err := s.stage1.Next(deadline)
		if err == nil || errors.As(err, &s.failed) {
			continue
		}
		if !errors.Is(err, io.EOF) {
			_ = stage2.Signal(syscall.SIGKILL)
		}
		break
	}
	return Reap(stage2, deadline.Add(killGrace))
}

// Reap waits for a process that has done its work or was killed, and closes it. If it has not
// ended at the deadline, it is killed and reaped in the background, and the error is
// os.ErrDeadlineExceeded.
func Reap(p *Process, deadline time.Time) (Status, error) {
	status, err := p.WaitUntil(deadline)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = p.Signal(syscall.SIGKILL)
		go func() {
			_, _ = p.Wait()
			_ = p.Close()
		}()
		return status, err
	}
	return status, errors.Join(err, p.Close())
}
