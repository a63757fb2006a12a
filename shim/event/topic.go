// SPDX-License-Identifier: Apache-2.0

// Package event sends the shim's events to containerd, in order, from one
// queue.
//
// What does not belong here: when an event is due and in which order, which
// package task decides.
package event

import (
	"fmt"

	"github.com/containerd/containerd/api/events"
	"google.golang.org/protobuf/proto"
)

// topic is the name under which containerd's subscribers find an event.
func topic(e proto.Message) (string, error) {
	switch e.(type) {
	case *events.TaskCreate:
		return "/tasks/create", nil
	case *events.TaskStart:
		return "/tasks/start", nil
	case *events.TaskOOM:
		return "/tasks/oom", nil
	case *events.TaskExit:
		return "/tasks/exit", nil
	case *events.TaskDelete:
		return "/tasks/delete", nil
	case *events.TaskExecAdded:
		return "/tasks/exec-added", nil
	case *events.TaskExecStarted:
		return "/tasks/exec-started", nil
	case *events.TaskPaused:
		return "/tasks/paused", nil
	case *events.TaskResumed:
		return "/tasks/resumed", nil
	}
	return "", fmt.Errorf("event %T has no topic", e)
}
