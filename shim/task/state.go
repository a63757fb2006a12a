// SPDX-License-Identifier: Apache-2.0

package task

import (
	"fmt"

	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
)

// state is the state of a process.
//
//	created ──start──► running ──exit──► stopped ──delete──► (gone)
//	   └──────────exit or a failed start──►┘
//	   └──────────delete──► (gone)
//
// Paused is not a state of a process but of its container's freezer: a paused
// process is running and shown as paused.
type state int

const (
	created state = iota
	running
	stopped
	deleted
)

func (s state) String() string {
	return [...]string{"created", "running", "stopped", "deleted"}[s]
}

func (s state) status() apitask.Status {
	switch s {
	case created:
		return apitask.Status_CREATED
	case running:
		return apitask.Status_RUNNING
	}
	return apitask.Status_STOPPED
}

// allowed lists the states in which an action is possible; all others are refused.
var allowed = map[string][]state{
	"start":  {created},
	"delete": {created, stopped},
	"pause":  {running},
	"resume": {running},
	"update": {created, running},
	"exec":   {running, created},
	"resize": {created, running},
}

// checkTransition returns an error of the form "cannot start a stopped process".
func (s state) checkTransition(action string) error {
	for _, ok := range allowed[action] {
		if s == ok {
			return nil
		}
	}
	if s == deleted {
		return fmt.Errorf("cannot %s a deleted process: %w", action, errdefs.ErrNotFound)
	}
	return fmt.Errorf("cannot %s a %s process: %w", action, s, errdefs.ErrFailedPrecondition)
}
