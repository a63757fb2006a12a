package task

import (
	"github.com/containerd/containerd/api/events"
	"golang.org/x/sys/unix"
)

// tellOOM publishes an OOM kill, unless the container's end is published:
// callers look for the reason when they hear of the exit.
func (c *container) tellOOM() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.init.state == stopped || c.init.state == deleted {
		return
	}
	c.oomTold = true
	c.s.events.Publish(&events.TaskOOM{ContainerID: c.id})
}

// oomBeforeExit makes sure that an OOM kill is told before the exit that it
// caused. The kernel tells of both at the same moment by two ways, and the
// exit's may be the quicker.
func (c *container) oomBeforeExit(status int) {
	if status != 128+int(unix.SIGKILL) {
		return
	}
	c.mu.Lock()
	told := c.oomTold
	c.mu.Unlock()
	if told {
		return
	}
	if c.rt.OOMKills() > 0 {
		c.tellOOM()
	}
}
