// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	core "github.com/containerd/containerd/v2/core/events"

	"sysbox/tests/pace"
)

// listening is the topic of an event that is published until it arrives.
const listening = "/listening"

// Subscribe is the client's Subscribe for events that follow: that one returns before
// containerd listens, and on a busy machine misses what comes at once. ctx names
// containerd's namespace and ends it.
func Subscribe(ctx context.Context, c *containerd.Client, filter string) (<-chan *core.Envelope, <-chan error, error) {
	all, errs := c.Subscribe(ctx, filter, fmt.Sprintf("topic==%q", listening))
	for deadline := time.Now().Add(time.Minute * pace.Patience()); ; {
		if err := c.EventService().Publish(ctx, listening, &events.TaskOOM{}); err != nil {
			return nil, nil, fmt.Errorf("publish an event: %w", err)
		}
		select {
		case <-all:
			out := make(chan *core.Envelope)
			go forward(ctx, all, out)
			return out, errs, nil
		case err := <-errs:
			return nil, nil, fmt.Errorf("subscribe to events: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, nil, fmt.Errorf("subscribe to events: none comes")
		}
	}
}

// forward passes on all events but those that showed that somebody listens.
func forward(ctx context.Context, all <-chan *core.Envelope, out chan<- *core.Envelope) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-all:
			if e.Topic == listening {
				continue
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}
}
