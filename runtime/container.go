package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/hooks"
	"sysbox/runtime/mirror"
	"sysbox/runtime/mount"
	"sysbox/runtime/plan"
	"sysbox/runtime/process"
	"sysbox/runtime/trap"
	"sysbox/runtime/tree"
	"sysbox/uidmap"
)

// Container is one container of a pod.
type Container struct {
	pod  *Pod
	cfg  *Config
	spec *specs.Spec
	plan *plan.Plan
	rec  record

	cgroup *cgroup.Cgroup
	init   *Process
	// setup is init's program until it has executed the container's own; nil
	// afterwards.
	setup *setup
	// start is the write end of the pipe on which init waits; nil once it
	// was let go.
	start *os.File
	// namespaces are the CLONE_NEW* flags that an Exec has to join.
	namespaces uint64
	// pts is the root of the container's own devpts, on which further terminals
	// are opened, whatever the container has mounted over it since; nil without one.
	pts     *os.File
	kmsg    *kmsg
	keyring process.Keyring
	filter  *process.Filter
	// trap is the notification filter, traps answers it, trapSocket brings
	// init's listener; nil for an ordinary container.
	trap       *process.Filter
	traps      *trap.Server
	trapsOver  chan struct{} // closed when traps is closed; nil before Delete
	trapSocket *os.File
	guarded    map[uint64]bool // the mounts with masks, see mount.Tree
	holds      []func()        // end what keeps others off the root's upper layer and storage
	initHome   string          // of init's user, where its environment has none
	rootDev    uint64          // st_dev of the image's file system
	reading    chan struct{}   // a slot for each reading of /etc/passwd
	stopOOM    func()
	usesIDs    bool
	watch      watch
	// mirror shows the root to a caller that has mounted it itself; nil for others.
	mirror atomic.Pointer[mirror.Mirror]

	mu      sync.Mutex
	deleted bool // guarded by mu
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

// Start lets init go on to its execve. After an error init never ran.
func (c *Container) Start(ctx context.Context) error {
	if c.start == nil {
		return errors.New("cannot start a container twice")
	}
	if err := c.runHooks(ctx, hooks.StartContainer); err != nil {
		c.init.Signal(int(unix.SIGKILL)) // runtime-spec, lifecycle: the container is stopped
		return err
	}
	handed := c.handOver(c.filter, c.trapSocket, c.init, specs.StateCreated)
	_, err := c.start.Write([]byte{1})
	c.start.Close()
	c.start = nil
	if err == nil {
		err = c.setup.executed(c.plan.Process.Args[0])
	}
	c.setup.Close()
	c.setup = nil
	if e := handed(); e != nil {
		err = e
	}
	if err == nil && c.trap != nil {
		err = c.serveTraps(c.trapSocket)
		c.trapSocket = nil
	}
	if err != nil {
		c.init.Signal(int(unix.SIGKILL))
		return err
	}
	// A failed poststart hook is a warning (runtime-spec, lifecycle).
	if err := c.runHooks(ctx, hooks.Poststart); err != nil {
		c.warn(err.Error())
	}
	return nil
}

// Pause freezes all processes.
func (c *Container) Pause(ctx context.Context) error {
	if c.traps == nil {
		return c.cgroup.Freeze(ctx)
	}
	err := c.traps.Hold(ctx)
	if err != nil {
		return err
	}
	if err = c.cgroup.Freeze(ctx); err != nil {
		c.traps.Release()
	}
	return err
}

// Resume thaws them.
func (c *Container) Resume(ctx context.Context) error {
	err := c.cgroup.Thaw(ctx)
	if err == nil && c.traps != nil {
		c.traps.Release()
	}
	return err
}

// Update applies new limits.
func (c *Container) Update(_ context.Context, r *specs.LinuxResources) error {
	if err := plan.CheckDeviceRules(r.Devices, c.cfg.blockDevices()); err != nil {
		return err
	}
	warnings, err := c.cgroup.Update(r)
	c.warn(warnings...)
	return err
}

// Cgroup is the container's. It must not be asked for before Create has returned.
func (c *Container) Cgroup() *cgroup.Cgroup { return c.cgroup }

// OOMKills is how many processes of the container the kernel has killed for
// want of memory.
func (c *Container) OOMKills() uint64 { return c.cgroup.OOMKills() }

// Pids lists the host pids of all processes in the container's cgroup.
func (c *Container) Pids(context.Context) ([]int, error) { return c.cgroup.Pids() }

// SignalAll sends a signal to every process of the container.
func (c *Container) SignalAll(_ context.Context, sig int) error {
	err := c.cgroup.SignalAll(unix.Signal(sig))
	if err == nil && unix.Signal(sig) == unix.SIGKILL {
		c.killed()
	}
	return err
}

// WatchOOM calls f, from a goroutine of its own, for each OOM kill until the
// container is deleted.
func (c *Container) WatchOOM(f func()) error {
	stop, err := c.cgroup.WatchOOM(func(uint64) { f() })
	if err != nil {
		return err
	}
	c.stopOOM = stop
	return nil
}

// Delete kills what still runs and removes everything of the container. It
// can be called again after an error.
func (c *Container) Delete(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deleted {
		return nil
	}
	c.watch.stop()
	defer func() {
		if !c.deleted {
			c.watch.start()
		}
	}()
	if c.start != nil {
		c.start.Close()
		c.start = nil
	}
	if c.stopOOM != nil {
		c.stopOOM()
		c.stopOOM = nil
	}
	if c.setup != nil {
		c.setup.Close()
		c.setup = nil
	}
	if c.init != nil {
		c.init.Signal(int(unix.SIGKILL))
	}
	if c.cgroup != nil {
		if err := c.grip().killAll(ctx); err != nil {
			return err
		}
	}
	if c.init != nil {
		if err := c.waitInit(ctx); err != nil {
			return err
		}
		c.init.close()
	}
	if c.pts != nil {
		c.pts.Close()
		c.pts = nil
	}
	c.kmsg.close()
	c.kmsg = nil
	if c.trapSocket != nil {
		c.trapSocket.Close()
		c.trapSocket = nil
	}
	if c.traps != nil {
		if err := c.closeTraps(ctx); err != nil {
			return err
		}
		c.traps = nil
	}
	c.closeMirror()
	for _, end := range c.holds {
		end()
	}
	c.holds = nil
	if err := c.rec.undo(ctx, c.cfg.Dirs(), c.cgroup); err != nil {
		return err
	}
	if c.usesIDs {
		c.usesIDs = false
		if err := c.pod.returnIDs(); err != nil {
			return err
		}
	}
	c.deleted = true
	return c.rec.remove(c.cfg.Dirs())
}

// undo removes what a record names, its processes having ended.
func (r *record) undo(ctx context.Context, d Dirs, cg *cgroup.Cgroup) error {
	err := together(
		func() error {
			if cg == nil {
				return nil
			}
			return cg.Delete(ctx)
		},
		func() error {
			if r.Mirror == "" {
				return nil
			}
			if err := mirror.Remove(r.Mirror, r.MirrorWork); err != nil {
				return fmt.Errorf("uncover the root file system %s: %w", r.Mirror, err)
			}
			return nil
		},
		func() error {
			if r.Upper != "" {
				for _, w := range mount.ParkUpper(ctx, r.Upper, r.InUpper) {
					slog.Warn(w, "container", r.ID)
				}
			}
			if r.Shifted == "" {
				return nil
			}
			for _, dir := range r.journals(d) {
				if err := uidmap.Revert(dir, r.Shifted); err != nil {
					return fmt.Errorf("give back the owners of %s: %w", r.Shifted, err)
				}
			}
			return nil
		},
		func() error {
			if r.Storage == "" {
				return nil
			}
			if err := tree.RemoveAll(ctx, nil, r.Storage); err != nil {
				return fmt.Errorf("remove the storage folders: %w", err)
			}
			os.Remove(filepath.Dir(r.Storage)) // the namespace's, while it is empty
			return nil
		},
	)
	if err != nil {
		return err
	}
	// A failed poststop hook is a warning, and the others still run.
	if err := hooks.RunAll(ctx, hooks.Poststop, r.Poststop, r.state(specs.StateStopped), "/"); err != nil {
		slog.Warn(err.Error(), "container", r.ID)
	}
	return nil
}

// state is what hooks read on stdin (runtime-spec, runtime.md, State).
func (r *record) state(status specs.ContainerState) *specs.State {
	return &specs.State{
		Version: specs.Version, ID: r.ID, Status: status, Pid: r.Init.Pid, Bundle: r.Bundle,
		Annotations: r.Annotations,
	}
}
