// SPDX-License-Identifier: Apache-2.0

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

// Config is the input of Create.
type Config struct {
	Path      string // linux.cgroupsPath of the OCI spec; "" is /sysbox/NAMESPACE/ID
	Driver    Driver
	Namespace string // the namespace in containerd, for the default path
	ID        string // the id of the container
	// Resources are linux.resources of the spec; nil means no limits but the default
	// device rules.
	Resources *specs.LinuxResources
	// System: the cgroup belongs to a system container. Delegate gives it to the root of
	// the container once the ids of root are known.
	System bool
	// PlaceholderPID is for the systemd driver only: a process that systemd moves into the new
	// scope, which cannot exist without one. It must live until init of the container has
	// joined; systemd kills it if Create fails.
	PlaceholderPID int
	// Layout is the layout of the host if nil.
	Layout *Layout
}

// Owner is the pair of host ids that root of a container is mapped to.
type Owner struct{ UID, GID uint32 }

// State is what another process needs to find the cgroup of a container again.
type State struct {
	Path   string  `json:"path"` // below each mount
	Unit   string  `json:"unit,omitempty"`
	System bool    `json:"system,omitempty"` // delegated
	Layout *Layout `json:"layout"`
}

// Cgroup is the control group of one container in all hierarchies. It is safe for
// concurrent use.
type Cgroup struct {
	layout *Layout
	path   string
	unit   string
	system bool // delegated
	// descendants: the spec limits the number of cgroups below.
	descendants bool
	warnings    []string

	mu       sync.Mutex
	oomKills uint64 // guarded by mu: the highest count seen
}

// Locate returns where Create will make the directories of the container, so that
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

// Create makes the directories of the container in all hierarchies and applies the
// resources. If it fails it leaves nothing behind.
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
			c.rollback(made)
		}
	}()
	if loc.driver == Systemd {
		if err := startScope(loc, l, res, rules, cfg.PlaceholderPID); err != nil {
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
		// Only now: while the parents contain the directory of the container, the removal
		// of a sibling cannot remove them.
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

// rollback removes what a failed Create has made. It does not remove a directory that
// others already used: rmdir fails.
func (c *Cgroup) rollback(mounts []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// Reclaim finds later what cannot be removed now; the first error matters more.
	if c.unit != "" {
		_ = stopUnit(ctx, c.unit)
	}
	for _, m := range mounts {
		_ = removeLeaf(ctx, m, c.path)
	}
}

// Load finds the cgroup of a container again. It does not check whether it still exists.
func Load(s State) (*Cgroup, error) {
	if s.Layout == nil || s.Path == "" || s.Path == "/" || s.Path[0] != '/' {
		return nil, fmt.Errorf("the cgroup state with path %q was not saved by this package", s.Path)
	}
	l, err := s.Layout.resolve()
	if err != nil {
		return nil, err
	}
	return &Cgroup{layout: l, path: s.Path, unit: s.Unit, system: s.System}, nil
}

// State returns what Load needs.
func (c *Cgroup) State() State {
	return State{Path: c.path, Unit: c.unit, System: c.system, Layout: c.layout}
}

// Directories are the directories of the cgroup of one container.
type Directories struct {
	// V1 has the directories of the version 1 hierarchies, by controller; empty on a host
	// without any.
	V1 map[string]string
	// Unified is the directory in cgroup2, "" if that is not mounted.
	Unified string
}

// Directories returns where the cgroup of the container is, for code that reads what the
// kernel counts. The directories disappear with the cgroup.
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

// Path is the path of the container below the mount point of every hierarchy.
func (c *Cgroup) Path() string { return c.path }

// Warnings are sentences about fields of the spec that the kernel no longer supports and that
// the spec allows to ignore.
func (c *Cgroup) Warnings() []string { return c.warnings }

// Delete removes the cgroups of the container in all hierarchies, with sub-cgroups and
// the empty parents made for it. It waits until ctx ends for processes that are exiting,
// five seconds if ctx has no deadline. A cgroup that is gone already is a
// success.
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
