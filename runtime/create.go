// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/feature"
	"sysbox/runtime/host"
	"sysbox/runtime/image"
	"sysbox/runtime/mount"
	"sysbox/runtime/namespace"
	"sysbox/runtime/plan"
	"sysbox/runtime/seccomp"
	"sysbox/runtime/state"
	"sysbox/uidmap"
)

// creation is a container while it is made, with what only its making needs.
type creation struct {
	*Container
	pod    *Pod
	req    CreateRequest
	claim  *claim
	joins  []namespace.Join
	ipc    *os.File // the namespace of a mqueue file system that the tree gets; nil for none
	masked map[uint64]bool
	tree   *mount.Tree
	home   string   // of init's user, where its environment has none
	after  []func() // run at the end, whatever became of it
}

// Create makes a container up to the point just before its execve: all its
// namespaces exist and its pid is known. After an error nothing is left.
//
// Several can be made at once. Only while the first of a pod makes the user namespace do
// others wait that are to join it.
func (p *Pod) Create(ctx context.Context, r CreateRequest) (*Container, error) {
	spec, err := readSpec(r.Bundle)
	if err != nil {
		return nil, err
	}
	pl, claim, err := p.ids.claim(ctx, func(joinable bool) (*plan.Plan, error) { return p.plan(r, spec, joinable) })
	if err != nil {
		return nil, err
	}
	c := &creation{pod: p, req: r, claim: claim, Container: &Container{
		cfg: p.cfg, log: p.log.With("container", r.ID), spec: spec, plan: pl,
		rec: state.Record{Namespace: p.namespace, ID: r.ID, Sandbox: p.sandbox, Bundle: r.Bundle, Data: p.cfg.DataDir},
	}}
	c.homes = image.NewHomes(c.joinFiles, p.cfg.Testing.HomeDeadline)
	c.undo.add(c.Container.removeRecord)
	c.undo.add(claim.release)
	c.undo.add(c.Container.undoRecorded)
	c.undo.add(closing(c.Container.releaseHolds))
	for _, step := range []func(context.Context) error{c.record, c.openNamespaces, c.prepare, c.startInit} {
		if err = step(ctx); err != nil {
			break
		}
	}
	for _, f := range c.after {
		f()
	}
	if err != nil {
		return nil, errors.Join(p.explained(err), c.Delete(context.WithoutCancel(ctx)))
	}
	return c.Container, nil
}

// maxSpec bounds config.json: CRI's largest are a few hundred kilobytes.
const maxSpec = 16 << 20

// readSpec reads a bundle's config.json.
func readSpec(bundle string) (*specs.Spec, error) {
	f, err := os.Open(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	if len(b) > maxSpec {
		return nil, fmt.Errorf("bundle %s: config.json is larger than %d bytes; give a smaller one", bundle, maxSpec)
	}
	var s specs.Spec
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("bundle %s: config.json: %w", bundle, err)
	}
	return &s, nil
}

// plan plans a container; joinable tells whether the pod has a user namespace.
func (p *Pod) plan(r CreateRequest, spec *specs.Spec, joinable bool) (*plan.Plan, error) {
	in := plan.Input{
		Namespace: p.namespace, ID: r.ID, Bundle: r.Bundle,
		Spec: spec, Terminal: r.Terminal, Facts: host.Facts(), PodIDs: joinable, AllowHostRoot: p.cfg.IDs.AllowHostRoot,
		Settings: p.cfg.Policy, BlockDevices: p.cfg.BlockDeviceNumbers(), WidenSeccomp: seccomp.SystemProfile,
	}
	for _, m := range r.Rootfs {
		in.RootfsMounts = append(in.RootfsMounts, plan.RootfsMount(m))
	}
	pl, err := plan.Make(in)
	if err != nil {
		return nil, err
	}
	return pl, host.CheckLabels(pl)
}

// explained is an error of Create, or what the kernel lacks for any container, or what keeps
// this process from making one.
func (p *Pod) explained(err error) error {
	startable := feature.Startable
	if f := p.cfg.Testing.Startable; f != nil {
		startable = f
	}
	lacks := startable()
	if lacks == nil {
		return err
	}
	if around := host.Surroundings(); errors.Is(lacks, unix.EPERM) && len(around) > 0 {
		return fmt.Errorf("%w; this process cannot make containers: %s; run containerd as the host's root, outside of containers, with all capabilities", err, strings.Join(around, "; "))
	}
	return lacks
}

// record writes what is to be made, before anything is: all of it can be removed by its record.
func (c *creation) record(ctx context.Context) error {
	d := c.cfg.Dirs()
	name, err := state.Path(d, c.rec.Namespace, c.rec.ID)
	if err != nil {
		return err
	}
	// Callers that never run delete may come again, with a name whose shim has died.
	if _, err := reclaimRecord(ctx, c.log, d, name); err != nil {
		return fmt.Errorf("remove what is left of another container %s: %w", c.rec.ID, err)
	}
	c.warn(c.plan.Warnings...)
	if c.rec.Shim, err = state.Self(); err != nil {
		return err
	}
	c.rec.PIDNS = state.PIDNamespace()
	c.rec.Annotations = c.plan.Annotations
	if h := c.plan.Hooks; h != nil {
		c.rec.Poststop = h.Poststop
	}
	if c.claim.ids != nil {
		c.rec.IDOwner = c.claim.ids.owner
	}
	located, err := cgroup.Locate(c.cgroupConfig())
	if err != nil {
		return err
	}
	c.rec.Cgroup = &located
	if err := c.pod.register(); err != nil {
		return fmt.Errorf("list the directories of the configuration, state_dir %s and data_dir %s, below %s, by which the container is found when the configuration changes: %w", c.cfg.StateDir, c.cfg.DataDir, state.HostDir, err)
	}
	if err := c.rec.Create(d); errors.Is(err, os.ErrExist) {
		return fmt.Errorf("container %s: %w in namespace %s; delete it first", c.rec.ID, os.ErrExist, c.rec.Namespace)
	} else if err != nil {
		return err
	}
	c.recorded = true
	return nil
}

func (c *creation) cgroupConfig() cgroup.Config {
	cfg := cgroup.Config{
		Path: c.plan.Cgroup.Path, Namespace: c.rec.Namespace, ID: c.rec.ID,
		Resources: c.plan.Cgroup.Resources, System: c.plan.Cgroup.Delegate,
	}
	if systemd := c.req.SystemdCgroup; systemd != nil {
		cfg.Driver = cgroup.Cgroupfs
		if *systemd {
			cfg.Driver = cgroup.Systemd
		}
	}
	return cfg
}

// openNamespaces opens the namespaces that are joined.
func (c *creation) openNamespaces(context.Context) (err error) {
	if c.joins, err = namespace.Open(c.plan.Namespaces, c.claim.userns); err != nil {
		return err
	}
	c.after = append(c.after, func() { namespace.Close(c.joins) })
	c.namespaces = namespace.Entered(c.plan.Namespaces)
	c.ipc, err = namespace.SettleForeign(c.plan, c.joins)
	return err
}

// prepare does what needs no process of the container.
func (c *creation) prepare(context.Context) error {
	cfg := c.cgroupConfig()
	if c.rec.Cgroup.Unit != "" {
		h, err := cgroup.NewScopePlaceholder()
		if err != nil {
			return err
		}
		c.after = append(c.after, h.Close) // when init has joined
		cfg.PlaceholderPID = h.Pid()
	}
	// None of these needs another's result, and together they are half of a
	// Create's time.
	others := 0
	if err := parallel(
		c.acquireIDs,
		func() error { return c.makeCgroup(cfg) },
		c.compileFilters,
		func() (err error) {
			if c.plan.Cgroup.Delegate {
				others, err = c.rec.Others(c.cfg.Dirs())
			}
			return err
		},
	); err != nil {
		return err
	}
	if err := c.plan.CheckIDs(); err != nil {
		return err
	}
	if !c.plan.Cgroup.Delegate {
		return nil
	}
	warnings, err := c.cgroup.Delegate(c.root(), others)
	c.warn(warnings...)
	return err
}

// acquireIDs completes the plan's ids.
func (c *creation) acquireIDs() error {
	if c.claim.ids != nil {
		return c.claim.fill(c.plan)
	}
	if !namespace.JoinsUser(c.plan) {
		return nil
	}
	ids := &c.plan.IDs
	path := c.plan.Namespaces.User.Path
	uid, gid, err := uidmap.ReadMaps(path)
	if err != nil && len(ids.UID) > 0 {
		return nil // it is pinned: CheckJoined looks once init is in it
	}
	if err != nil {
		return fmt.Errorf("linux.namespaces: the user namespace %s: %w; give linux.uidMappings and gidMappings as well", path, err)
	}
	if len(ids.UID) == 0 {
		ids.UID, ids.GID = uid, gid
	}
	return namespace.CompareMaps(c.plan, uid, gid, c.cfg.IDs.AllowHostRoot)
}

func (c *creation) makeCgroup(cfg cgroup.Config) error {
	cg, err := cgroup.Create(cfg)
	if err != nil {
		return fmt.Errorf("make the cgroup: %w", err)
	}
	c.cgroup = cg
	c.warn(cg.Warnings()...)
	return nil
}

// parallel runs functions at the same time and returns the first error in
// their order.
func parallel(fs ...func() error) error {
	errs := make([]error, len(fs))
	var wg sync.WaitGroup
	for i, f := range fs[1:] {
		wg.Go(func() { errs[i+1] = f() })
	}
	errs[0] = fs[0]()
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// saveRecord writes the record as it is now.
func (c *Container) saveRecord() error { return c.rec.Write(c.cfg.Dirs()) }

func procDir(pid int) string { return "/proc/" + strconv.Itoa(pid) }
