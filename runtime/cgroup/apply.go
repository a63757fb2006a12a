// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// apply writes settings. Some only fit after another (a memory limit above the
// old limit of memory plus swap, a quota below the old burst). So apply tries
// those that the kernel rejects again after the others, as long as that
// makes progress.
func (c *Cgroup) apply(settings []setting) error {
	for len(settings) > 0 {
		var later []setting
		var first error
		for i := range settings {
			err := c.write(&settings[i])
			if err == nil {
				continue
			}
			if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EBUSY) {
				return err
			}
			if first == nil {
				first = err
			}
			later = append(later, settings[i])
		}
		if len(later) == len(settings) {
			return first
		}
		settings = later
	}
	return nil
}

// dir is the container's directory in the hierarchy of a controller; "" is the unified one.
func (c *Cgroup) dir(controller string) string {
	if controller != "" {
		if m := c.layout.v1(controller); m != "" {
			return m + c.path
		}
	}
	return c.layout.Unified + c.path
}

func (c *Cgroup) write(s *setting) error {
	dir := c.dir(s.controller)
	file, value := s.file, s.value
	if s.hint == checkUsage {
		if err := checkBelowUsage(dir, value); err != nil {
			return fmt.Errorf("%s: %w", s.field, err)
		}
	}
	if strings.HasPrefix(value, keep) {
		now, err := readFile(dir + "/" + file)
		if err != nil {
			return fmt.Errorf("%s: %w", s.field, err)
		}
		word, _, _ := strings.Cut(now, " ")
		value = word + value[len(keep):]
	}
	if s.prefer != "" && exists(dir+"/"+s.prefer) {
		file, value = s.prefer, s.preferValue
	}
	err := writeFile(dir+"/"+file, value)
	if errors.Is(err, unix.ENOENT) && c.layout.version(s.controller) == 2 && exists(dir) {
		// A sibling may be enabling the controller right now: it is in
		// cgroup.subtree_control before its files exist. Enabling it again waits for
		// that.
		if writeFile(path.Dir(dir)+"/cgroup.subtree_control", "+"+s.controller) == nil {
			err = writeFile(dir+"/"+file, value)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP) && s.hint != "" && s.hint != checkUsage: // bfq does not schedule this disk
		return fmt.Errorf("%s: %w: %s", s.field, err, s.hint)
	case s.controller == "cpuset" && !errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s: %w; use some of those of the parent cgroup (%s)", s.field, err, aboveHas(dir, file))
	case !errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s: %w", s.field, err)
	case !exists(dir):
		return fmt.Errorf("%s: cgroup %s is gone: %w", s.field, dir, err)
	case s.optional:
		return nil
	case s.hint != "" && s.hint != checkUsage:
		return fmt.Errorf("%s: the kernel has no file %s: %s", s.field, file, s.hint)
	}
	return fmt.Errorf("%s: the kernel has no file %s here; remove the field or enable the %s controller in %s/cgroup.subtree_control",
		s.field, file, s.controller, path.Dir(dir))
}

// aboveHas returns the CPUs or memory nodes of the parent cgroup, which limit those of its children.
func aboveHas(dir, file string) string {
	for _, name := range []string{file + ".effective", file} { // v2, where a cgroup may have none of its own; then v1
		if v, err := readFile(path.Dir(dir) + "/" + name); err == nil {
			return v
		}
	}
	return "unknown"
}

// checkBelowUsage rejects a limit below the current usage. The kernel does this for
// v1; with v2 it would kill processes.
func checkBelowUsage(dir, limit string) error {
	now, err := readFile(dir + "/memory.current")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	used, err1 := strconv.ParseUint(now, 10, 64)
	want, err2 := strconv.ParseUint(limit, 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if want < used {
		return fmt.Errorf("%d bytes are in use and checkBeforeUpdate is set; free memory first or use a higher limit", used)
	}
	return nil
}

// Update applies new limits to a running container. Unset fields keep their values;
// Devices, if any, replace all rules.
func (c *Cgroup) Update(r *specs.LinuxResources) (warnings []string, err error) {
	if r == nil {
		return nil, nil
	}
	settings, warnings, err := plan(r, c.layout)
	if err != nil {
		return nil, err
	}
	rules, err := deviceRules(r.Devices, c.system)
	if err != nil {
		return nil, err
	}
	if c.unit != "" {
		if err := updateUnit(c.unit, c.layout, r, rules); err != nil {
			return nil, err
		}
	}
	if err := c.apply(settings); err != nil {
		return nil, err
	}
	if len(r.Devices) == 0 {
		return warnings, nil
	}
	return warnings, c.replaceDevices(rules)
}

// enableControllers makes the v2 controllers available in the container's
// directory: all of them on a v2 host, for statistics and delegation; on a
// hybrid host only those that a setting needs.
func enableControllers(l *Layout, p string, settings []setting) error {
	want := l.V2Controllers
	if l.Mode() == "hybrid" {
		want = nil
		for _, s := range settings {
			if l.version(s.controller) == 2 && !slices.Contains(want, s.controller) {
				want = append(want, s.controller)
			}
		}
	}
	if len(want) == 0 {
		return nil
	}
	parent := path.Dir(p)
	// Usually one read is enough: a sibling has enabled them.
	if has, err := readFile(l.Unified + parent + "/cgroup.subtree_control"); err == nil && containsAll(strings.Fields(has), want) {
		return nil
	}
	dir := l.Unified
	for part := range strings.SplitSeq(strings.TrimSuffix(parent, "/"), "/") {
		if part != "" {
			dir += "/" + part
		}
		if err := enableIn(dir, want, settings); err != nil {
			return err
		}
	}
	return nil
}

func enableIn(dir string, want []string, settings []setting) error {
	has, err := readFile(dir + "/cgroup.subtree_control")
	if err != nil {
		return err
	}
	var missing []string
	for _, ctrl := range want {
		if !slices.Contains(strings.Fields(has), ctrl) {
			missing = append(missing, "+"+ctrl)
		}
	}
	if len(missing) == 0 || writeFile(dir+"/cgroup.subtree_control", strings.Join(missing, " ")) == nil {
		return nil
	}
	// The write of several is atomic, and it failed: write them one by one. A controller
	// that no setting needs may be missing (the parent does not have it, or real-time
	// tasks block cpu).
	for _, m := range missing {
		err := writeFile(dir+"/cgroup.subtree_control", m)
		i := slices.IndexFunc(settings, func(s setting) bool { return s.controller == m[1:] })
		if err == nil || i < 0 {
			continue
		}
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%s: cgroup %s contains processes, so the kernel enables no controllers below it;  "+
				"move the processes to a cgroup beside that of the container or choose another linux.cgroupsPath: %w", settings[i].field, dir, err)
		}
		return fmt.Errorf("%s: %w", settings[i].field, err)
	}
	return nil
}

func containsAll(has, want []string) bool {
	for _, w := range want {
		if !slices.Contains(has, w) {
			return false
		}
	}
	return true
}
