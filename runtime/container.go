// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/config"
	"sysbox/runtime/image"
	"sysbox/runtime/kill"
	"sysbox/runtime/mirror"
	"sysbox/runtime/plan"
	"sysbox/runtime/process"
	"sysbox/runtime/seccomp"
	"sysbox/runtime/state"
	"sysbox/runtime/terminal"
	"sysbox/runtime/trap"
)

// Container is one container of a pod.
type Container struct {
	cfg  *config.Config
	log  *slog.Logger // has the container's id
	spec *specs.Spec
	plan *plan.Plan
	rec  state.Record

	cgroup *cgroup.Cgroup
	init   *Process
	watch  *kill.Watch
	// pending is what Start needs; nil afterwards.
	pending *pending
	// namespaces are the CLONE_NEW* flags that an Exec has to join.
	namespaces uint64
	// pts is the root of the container's own devpts, on which further terminals
	// are opened, whatever the container has mounted over it since; nil without one.
	pts     *os.File
	kmsg    *terminal.Kmsg
	keyring process.Keyring
	homes   *image.Homes
	filter  *seccomp.Filter
	// trap is the notification filter and traps answers it; nil for an ordinary container.
	trap      *seccomp.Filter
	traps     *trap.Server
	trapsOver chan struct{} // closed when traps is closed; nil before Delete
	stopOOM   func()
	holds     []func() // end what keeps others off the root's upper layer and storage
	// mirror shows the root to a caller that has mounted it itself; nil for others.
	mirror atomic.Pointer[mirror.Mirror]

	mu       sync.Mutex
	recorded bool // the record is on disk
	undo     undo // what was made and not yet removed; guarded by mu once Create has returned
	deleted  bool // guarded by mu
}

// pending is init before Start has let it go on.
type pending struct {
	sync   *os.File       // the write end of the pipe on which init waits
	setup  *process.Setup // until init has executed the container's own
	socket *os.File       // brings init's seccomp listener; nil without one
}

func (p *pending) close() {
	p.sync.Close()
	if p.setup != nil {
		p.setup.Close()
	}
	if p.socket != nil {
		p.socket.Close()
	}
}

// ID of the container.
func (c *Container) ID() string { return c.rec.ID }

// Spec is the bundle's config.json as read, before the plan's changes.
func (c *Container) Spec() *specs.Spec { return c.spec }

// Init is the container's first process.
func (c *Container) Init() *Process { return c.init }

// OwnPIDNamespace is false if the rest of the container survives init's death
// and must be killed with SignalAll before init's exit is published.
func (c *Container) OwnPIDNamespace() bool {
	return c.plan.Namespaces.PID.Mode == plan.NamespaceNew
}

// Cgroup is the container's. It must not be asked for before Create has returned.
func (c *Container) Cgroup() *cgroup.Cgroup { return c.cgroup }

// root are the host's ids of the container's root.
func (c *Container) root() cgroup.Owner {
	uid, _ := c.plan.IDs.UID.ToHost(0)
	gid, _ := c.plan.IDs.GID.ToHost(0)
	return cgroup.Owner{UID: uid, GID: gid}
}

// warn logs what was done otherwise than asked, or happens in a running container.
func (c *Container) warn(texts ...string) {
	for _, t := range texts {
		c.log.Warn(t)
	}
}

// joinFiles opens what a process joins the cgroups with that init is in.
func (c *Container) joinFiles() (tasks []*os.File, unified *os.File, err error) {
	if tasks, err = c.cgroup.JoinFiles(); err != nil {
		return nil, nil, err
	}
	if unified, err = c.cgroup.ExecFD(c.init.Pid()); err != nil {
		process.CloseAll(tasks)
		return nil, nil, err
	}
	return tasks, unified, nil
}
