// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"os"

	"sysbox/runtime/state"
)

// What the tests need beside the API.

var (
	OpenAllocator = openAllocator
	Leave         = leave
	ReclaimOnce   = reclaimOnce
)

// HasIDs tells whether the pod holds ids for containers.
func (p *Pod) HasIDs() bool { return p.ids.lease != nil || p.ids.users != 0 || p.ids.userns != nil }

// Record is the container's, as its shim has it.
func (c *Container) Record() *state.Record { return &c.rec }

// LetGo gives up the locks of the container, as the end of its shim does.
func (c *Container) LetGo() { c.releaseHolds() }

// CloseTraps ends the server of the container's trapped calls, as the end of its shim does.
func (c *Container) CloseTraps() {
	c.traps.Close()
	c.traps = nil
}

// ServeTraps has that server take a listener.
func (c *Container) ServeTraps(listener *os.File) error { return c.traps.Serve(listener) }
