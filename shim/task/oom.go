// SPDX-License-Identifier: Apache-2.0

package task

import (
	"github.com/containerd/containerd/api/events"
	"golang.org/x/sys/unix"
)

// publishOOM publishes an OOM kill, unless the container's exit is published
// already: callers look for the reason when they hear of the exit.
func (c *container) publishOOM() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.init.state == stopped || c.init.state == deleted {
		return
	}
	c.oomPublished = true
	c.s.events.Publish(&events.TaskOOM{ContainerID: c.id})
}

// oomBeforeExit makes sure that an OOM kill is published before the exit that
// it caused. The kernel reports the two separately, and the exit may arrive
// first.
func (c *container) oomBeforeExit(status int) {
	if status != 128+int(unix.SIGKILL) {
		return
	}
	c.mu.Lock()
	published := c.oomPublished
	c.mu.Unlock()
	if published {
		return
	}
	if c.rt.OOMKills() > 0 {
		c.publishOOM()
	}
}
