package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sysbox/runtime/feature"
	"sysbox/runtime/plan"
	"sysbox/runtime/seccomp"
	"sysbox/uidmap"
)

// Pod is what the containers of one sandbox share: the range of ids and the
// user namespace, made when the first container needs them and given back
// with the last.
type Pod struct {
	cfg       *Config
	namespace string
	sandbox   string

	mu sync.Mutex
	// alloc, lease, userns and the maps are guarded by mu; nil until a container
	// without a user namespace of its caller's was made.
	alloc    *uidmap.Allocator
	lease    *uidmap.Lease
	userns   *os.File
	uid, gid uidmap.Map
	// users is how many containers share them; guarded by mu.
	users int
	// registered: the host lists the directories; guarded by mu.
	registered bool
}

// NewPod returns the pod of a sandbox in one of containerd's namespaces.
// Nothing is made before the first Create.
func NewPod(cfg *Config, namespace, sandbox string) *Pod {
	return &Pod{cfg: cfg, namespace: namespace, sandbox: sandbox}
}

// Close gives back what the pod still holds; its containers must have been
// deleted.
func (p *Pod) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = 0
	return p.dropIDs()
}

// register lists the pod's directories, once. p.mu is held.
func (p *Pod) register() error {
	if p.registered {
		return nil
	}
	err := p.cfg.Dirs().register()
	p.registered = err == nil
	return err
}

// owner is the name under which the pod's range is recorded. Callers with a state directory
// of their own may have a pod of the same name.
func (p *Pod) owner() string {
	if p.cfg.StateDir == hostDir {
		return p.namespace + "/" + p.sandbox
	}
	return p.namespace + "/" + p.sandbox + " of " + p.cfg.StateDir
}

// takeIDs fills in the ids of a plan that leaves them to the runtime.
// p.mu is held.
func (p *Pod) takeIDs(pl *plan.Plan) error {
	if p.lease == nil {
		a, err := openAllocator(p.cfg.Dirs(), p.cfg.Pool())
		if err != nil {
			return err
		}
		if p.lease, err = a.Acquire(p.owner()); err != nil {
			a.Close()
			return err
		}
		p.alloc = a
		p.uid = uidmap.Map{{ContainerID: 0, HostID: p.lease.UID().HostID, Size: p.lease.UID().Size}}
		p.gid = uidmap.Map{{ContainerID: 0, HostID: p.lease.GID().HostID, Size: p.lease.GID().Size}}
	}
	p.users++
	pl.IDs.UID, pl.IDs.GID = p.uid, p.gid
	return nil
}

// returnIDs is the end of one container's use of the pod's ids.
func (p *Pod) returnIDs() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users--; p.users > 0 {
		return nil
	}
	return p.dropIDs()
}

// dropIDs gives the range back. p.mu is held.
func (p *Pod) dropIDs() error {
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
func openAllocator(d Dirs, p uidmap.Pool) (*uidmap.Allocator, error) {
	a, err := uidmap.Open(uidmap.HostDir, p)
	if err == nil {
		a.Heed(filepath.Join(d.State, "ids"))
	}
	return a, err
}

// startable tells why no container starts on this kernel; a test has another.
var startable = feature.Startable

// explained is an error of Create, or what the kernel lacks for any container, or what keeps
// this process from making one.
func explained(err error) error {
	lacks := startable()
	if lacks == nil {
		return err
	}
	if around := Surroundings(); errors.Is(lacks, unix.EPERM) && len(around) > 0 {
		return fmt.Errorf("%w; this process cannot make containers: %s; run containerd as the host's root, outside of containers, with all capabilities", err, strings.Join(around, "; "))
	}
	return lacks
}

// Create makes a container up to the point just before its execve: all its
// namespaces exist and its pid is known. After an error nothing is left.
func (p *Pod) Create(ctx context.Context, r CreateRequest) (*Container, error) {
	spec, err := readSpec(r.Bundle)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	in := plan.Input{
		Namespace: p.namespace, ID: r.ID, Bundle: r.Bundle,
		Spec: spec, Terminal: r.Terminal, Facts: hostFacts(), PodIDs: p.userns != nil, AllowHostRoot: p.cfg.IDs.AllowHostRoot,
		Settings: p.cfg.policy, BlockDevices: p.cfg.blockDevices(), WidenSeccomp: seccomp.SystemProfile,
	}
	for _, m := range r.Rootfs {
		in.RootfsMounts = append(in.RootfsMounts, plan.RootfsMount(m))
	}
	pl, err := plan.Make(in)
	if err != nil {
		return nil, err
	}
	if err := checkLabels(pl); err != nil {
		return nil, err
	}
	c := &Container{pod: p, cfg: p.cfg, spec: spec, plan: pl, reading: make(chan struct{}, homeReaders), rec: record{
		Namespace: p.namespace, ID: r.ID, Sandbox: p.sandbox, Bundle: r.Bundle, Data: p.cfg.DataDir,
	}}
	name, err := recordPath(p.cfg.Dirs(), p.namespace, r.ID)
	if err != nil {
		return nil, err
	}
	// Callers that never run delete may come again, with a name whose shim has died.
	if _, err := reclaimRecord(ctx, p.cfg.Dirs(), name); err != nil {
		return nil, fmt.Errorf("remove what is left of another container %s: %w", r.ID, err)
	}
	if exists(name) {
		return nil, fmt.Errorf("container %s: %w in namespace %s; delete it first", r.ID, os.ErrExist, p.namespace)
	}
	if err := c.make(ctx, r); err != nil {
		err = explained(err)
		p.mu.Unlock() // what undoes it takes the lock as Delete does
		err = errors.Join(err, c.Delete(context.WithoutCancel(ctx)))
		p.mu.Lock()
		return nil, err
	}
	return c, nil
}
