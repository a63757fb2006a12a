package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Config is what Create needs to know.
type Config struct {
	Path      string // linux.cgroupsPath of the OCI spec; "" is /sysbox/NAMESPACE/ID
	Driver    Driver
	Namespace string // containerd's, for the default path
	ID        string // the container's
	// Resources are linux.resources of the spec; nil is no limit but the
	// default device rules.
	Resources *specs.LinuxResources
	// System: the cgroup is a system container's, to be delegated to its root
	// with Delegate once the root's ids are known.
	System bool
	// HolderPID is needed by the systemd driver alone: a process that systemd
	// moves into the new scope, which can't exist without one. It must live
	// until the container's init has joined; systemd ends it if Create fails.
	HolderPID int
	// Layout is the host's if nil.
	Layout *Layout
}

// Owner is the pair of host ids that a container's root is mapped to.
type Owner struct{ UID, GID uint32 }

// State is what another process needs to find a container's cgroup again.
type State struct {
	Path   string  `json:"path"` // below each mount
	Unit   string  `json:"unit,omitempty"`
	System bool    `json:"system,omitempty"` // delegated
	Layout *Layout `json:"layout"`
}

// Cgroup is the control group of one container in all hierarchies. Its
// methods may be called from several goroutines.
type Cgroup struct {
	layout *Layout
	path   string
	unit   string
	system bool // delegated
	// descendants: the spec says how many cgroups there may be below.
	descendants bool
	warnings    []string

	mu       sync.Mutex
	oomKills uint64 // guarded by mu: the highest count of OOM kills seen
}

// Locate tells where Create will make the container's directories, so that
// the place can be recorded before.
func Locate(cfg Config) (State, error) {
	l, err := cfg.Layout, error(nil)
	if l == nil {
		if l, err = Host(); err != nil {
			return State{}, err
		}
	}
	loc, err := locate(cfg.Path, cfg.Driver, cfg.Namespace, cfg.ID)
	return State{Path: loc.path, Unit: loc.unit, System: cfg.System, Layout: l}, err
}

// Create makes the container's directories in all hierarchies and applies the
// resources. Nothing is left behind if it fails.
func Create(cfg Config) (*Cgroup, error) {
	l, err := cfg.Layout, error(nil)
	if l == nil {
		if l, err = Host(); err != nil {
			return nil, err
		}
	}
	loc, err := locate(cfg.Path, cfg.Driver, cfg.Namespace, cfg.ID)
	if err != nil {
		return nil, err
	}
	res := cfg.Resources
	if res == nil {
		res = &specs.LinuxResources{}
	}
	settings, warnings, err := plan(res, l)
	if err != nil {
		return nil, err
	}
	rules, err := deviceRules(res.Devices, cfg.System)
	if err != nil {
		return nil, err
	}

	c := &Cgroup{layout: l, path: loc.path, unit: loc.unit, system: cfg.System, warnings: warnings}
	_, c.descendants = res.Unified["cgroup.max.descendants"]
	var made []string
	done := false
	defer func() {
		if !done {
			c.undo(made)
		}
	}()
	if loc.driver == Systemd {
		if err := startScope(loc, l, res, rules, cfg.HolderPID); err != nil {
			return nil, err
		}
	}
	for _, h := range l.V1 {
		if loc.driver == Systemd && exists(h.Mount+loc.path) {
			continue
		}
		ok, err := makeLeaf(h.Mount, loc.path, slices.Contains(h.Controllers, "cpuset"))
		if ok {
			made = append(made, h.Mount)
		}
		if err != nil {
			return nil, err
		}
	}
	if l.Unified != "" && (loc.driver != Systemd || !exists(l.Unified+loc.path)) {
		ok, err := makeLeaf(l.Unified, loc.path, false)
		if ok {
			made = append(made, l.Unified)
		}
		if err != nil {
			return nil, err
		}
	}
	if l.Unified != "" {
		// Only now: with the container's directory in them, the removal of a
		// sibling can't take the parents away.
		if err := enableControllers(l, loc.path, settings); err != nil {
			return nil, err
		}
	}
	if err := c.apply(settings); err != nil {
		return nil, err
	}
	if err := c.applyDevices(rules); err != nil {
		return nil, err
	}
	done = true
	return c, nil
}

// undo removes what a failed Create made. A directory it found in use isn't
// removed: rmdir refuses.
func (c *Cgroup) undo(mounts []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// What can't be undone is found by name later; the first error matters more.
	if c.unit != "" {
		_ = stopUnit(ctx, c.unit)
	}
	for _, m := range mounts {
		_ = removeLeaf(ctx, m, c.path)
	}
}

// Load finds a container's cgroup again. It doesn't look whether it still exists.
func Load(s State) (*Cgroup, error) {
	if s.Layout == nil || s.Path == "" || s.Path == "/" || s.Path[0] != '/' {
		return nil, fmt.Errorf("cgroup state with path %q isn't one that was saved", s.Path)
	}
	l, err := s.Layout.here()
	if err != nil {
		return nil, err
	}
	return &Cgroup{layout: l, path: s.Path, unit: s.Unit, system: s.System}, nil
}

// State returns what Load needs.
func (c *Cgroup) State() State {
	return State{Path: c.path, Unit: c.unit, System: c.system, Layout: c.layout}
}

// Directories are those of one container's cgroup.
type Directories struct {
	// V1 has those of the version 1 hierarchies, by controller; empty on a host
	// without any.
	V1 map[string]string
	// Unified is that of cgroup2, "" where it is not mounted.
	Unified string
}

// Directories returns where the container's cgroup is, for those that read what the kernel
// counts. A directory is gone when the cgroup is.
func (c *Cgroup) Directories() Directories {
	d := Directories{V1: map[string]string{}}
	for _, h := range c.layout.V1 {
		for _, controller := range h.Controllers {
			d.V1[controller] = h.Mount + c.path
		}
	}
	if c.layout.Unified != "" {
		d.Unified = c.layout.Unified + c.path
	}
	return d
}

// Path is the container's path below the mount point of every hierarchy.
func (c *Cgroup) Path() string { return c.path }

// Warnings are sentences about fields of the spec that the kernel no longer
// has and that the spec allows to be ignored.
func (c *Cgroup) Warnings() []string { return c.warnings }

// Delete removes the container's cgroups, sub-cgroups included, in all
// hierarchies, and the empty parents made for it. It waits for processes that
// are just ending until ctx ends, five seconds if ctx has no deadline. A
// cgroup already gone is a success.
func (c *Cgroup) Delete(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
	}
	var errs []error
	if c.unit != "" {
		errs = append(errs, stopUnit(ctx, c.unit))
	}
	for _, m := range c.layout.mounts() {
		errs = append(errs, removeLeaf(ctx, m, c.path))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove cgroup %s: %w", c.path, err)
	}
	return nil
}

func exists(dir string) bool {
	_, err := os.Lstat(dir)
	return err == nil
}
