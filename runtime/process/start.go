// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"time"

	"sysbox/runtime/program"
)

// StepDeadline bounds every wait for a child that something in the container could stop or slow
// down. After it the child is killed.
const StepDeadline = 30 * time.Second

// Setup is a started program until it has executed a file of the container. Close it then.
type Setup struct{ *program.Stages }

// Start starts a program; deadline bounds each of its steps.
func Start(p program.Program, files []program.File, deadline time.Duration) (*Setup, error) {
	stages, err := program.StartStages(p, program.Options{Files: files}, TagPid, deadline)
	if err != nil {
		return nil, err
	}
	return &Setup{stages}, nil
}

// Stage2 returns init, or the process of an exec.
func (s *Setup) Stage2() (*program.Process, error) {
	p, err := s.Stages.Stage2()
	return p, s.explain(err)
}

// Expect waits for a report and returns its value.
func (s *Setup) Expect(tag uint32) (int32, error) {
	v, err := s.Stages.Expect(tag)
	return v, s.explain(err)
}

// Executed waits until the process has executed name or failed to.
func (s *Setup) Executed(name string) error {
	return NotExecuted(s.Stages.Executed(), name)
}

// explain turns the failure of a set-up into an error that says what the user can do.
func (s *Setup) explain(err error) error {
	switch {
	case errors.Is(err, program.ErrEnded):
		return errors.New("the process was killed during its set-up; if nobody killed it, its memory limit (linux.resources.memory.limit) may be too small")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the set-up of the process made no progress for %v", s.Deadline)
	}
	return refusedByHost(err)
}
