// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"sysbox/runtime/plan"
	"sysbox/runtime/state"
	"sysbox/uidmap"
)

// podIDs are the range of ids and the user namespace that the containers of a pod share. The
// first that needs them makes them; one that comes meanwhile waits until the namespace is
// there to be joined, and no longer.
type podIDs struct {
	dirs  state.Dirs
	pool  uidmap.Pool
	owner string // the range's name on disk

	mu sync.Mutex
	// users is how many containers share them; guarded by mu, as all that follows.
	users int
	// making is closed when the first container's user namespace is there, or its Create
	// has failed; nil while none is being made.
	making chan struct{}
	// alloc and lease are nil until there is a range.
	alloc    *uidmap.Allocator
	lease    *uidmap.Lease
	uid, gid uidmap.Map
	userns   *os.File
}

// claim is one container's use of its pod's ids, until release.
type claim struct {
	ids *podIDs // nil: the container has ids of its caller's
	// first: this container is to make what the pod shares.
	first bool
	// userns is the pod's user namespace, nil for the first.
	userns   *os.File
	released bool
}

// claim plans a container, with makePlan, and counts it if it uses the pod's ids. What makePlan
// is given tells whether there is a user namespace to join.
func (p *podIDs) claim(ctx context.Context, makePlan func(joinable bool) (*plan.Plan, error)) (*plan.Plan, *claim, error) {
	for {
		pl, c, wait, err := p.tryClaim(makePlan)
		if wait == nil {
			return pl, c, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

func (p *podIDs) tryClaim(makePlan func(joinable bool) (*plan.Plan, error)) (_ *plan.Plan, c *claim, wait <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl, err := makePlan(p.userns != nil)
	switch {
	case err != nil || !ownIDs(pl):
		return pl, &claim{}, nil, err
	case p.userns == nil && p.making != nil:
		return nil, nil, p.making, nil
	case p.userns == nil:
		p.making = make(chan struct{})
	}
	p.users++
	return pl, &claim{ids: p, first: p.userns == nil, userns: p.userns}, nil, nil
}

// ownIDs is true if the container lives on its pod's range.
func ownIDs(p *plan.Plan) bool {
	return p.IDs.Source == plan.IDsAllocate || p.IDs.Source == plan.IDsJoin && p.Namespaces.User.Path == ""
}

// fill completes the plan's ids. The first container of a pod takes the range from the host's.
func (c *claim) fill(pl *plan.Plan) error {
	p := c.ids
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lease == nil {
		a, err := openAllocator(p.dirs, p.pool)
		if err != nil {
			return err
		}
		if p.lease, err = a.Acquire(p.owner); err != nil {
			a.Close()
			return err
		}
		p.alloc = a
		p.uid = uidmap.Map{{ContainerID: 0, HostID: p.lease.UID().HostID, Size: p.lease.UID().Size}}
		p.gid = uidmap.Map{{ContainerID: 0, HostID: p.lease.GID().HostID, Size: p.lease.GID().Size}}
	}
	pl.IDs.UID, pl.IDs.GID = p.uid, p.gid
	return nil
}

// publish lets the pod's other containers join the user namespace of the first, of which proc
// is a process; for others it does nothing.
func (c *claim) publish(proc string) error {
	if !c.first {
		return nil
	}
	f, err := os.Open(proc + "/ns/user")
	if err != nil {
		return err
	}
	c.ids.mu.Lock()
	defer c.ids.mu.Unlock()
	c.ids.userns, c.first = f, false
	c.ids.made()
	return nil
}

// made wakes those who wait for the first container. p.mu is held.
func (p *podIDs) made() {
	close(p.making)
	p.making = nil
}

// release ends a container's use. Where the range cannot be given back, it can be called
// again.
func (c *claim) release(context.Context) error {
	p := c.ids
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.first {
		c.first = false
		p.made()
	}
	if !c.released {
		c.released = true
		p.users--
	}
	if p.users > 0 {
		return nil
	}
	return p.drop()
}

// close gives the range back, whoever uses it.
func (p *podIDs) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = 0
	return p.drop()
}

// drop gives the range back. p.mu is held.
func (p *podIDs) drop() error {
	if p.userns != nil {
		p.userns.Close()
		p.userns = nil
	}
	if p.lease == nil {
		return nil
	}
	err := errors.Join(p.lease.Release(), p.alloc.Close())
	p.lease = nil
	return err
}

// openAllocator opens the host's ranges. Versions before had some in each state directory.
func openAllocator(d state.Dirs, p uidmap.Pool) (*uidmap.Allocator, error) {
	a, err := uidmap.Open(uidmap.HostDir, p)
	if err == nil {
		a.AvoidRangesIn(filepath.Join(d.State, "ids"))
	}
	return a, err
}
