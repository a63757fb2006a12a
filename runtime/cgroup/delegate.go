package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// delegatable are the files of a v2 cgroup that go to whom it's delegated to,
// from the kernel's own list.
var delegatable = sync.OnceValue(func() []string {
	b, err := os.ReadFile("/sys/kernel/cgroup/delegate")
	if err != nil {
		return []string{"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"}
	}
	return strings.Fields(string(b))
})

// maxDescendants is how many cgroups a container may have below its own, unless the spec has
// another number. The kernel has 65,535 memory cgroups for all of a host
// (MEM_CGROUP_ID_MAX): with none left no container starts.
const maxDescendants = "8192"

// Delegate gives the directory and the files that manage sub-cgroups to the
// container's root.
func (c *Cgroup) Delegate(o Owner) error {
	var files []string
	if c.layout.Unified != "" {
		dir := c.layout.Unified + c.path
		if !c.descendants {
			// Without the right to, this process is below a limit of somebody else's.
			if err := writeFile(dir+"/cgroup.max.descendants", maxDescendants); err != nil && !errors.Is(err, os.ErrPermission) {
				return fmt.Errorf("limit the cgroups of a container: %w", err)
			}
		}
		files = append(files, dir)
		for _, f := range delegatable() {
			files = append(files, dir+"/"+f)
		}
	}
	if m := c.layout.v1("name=systemd"); m != "" {
		dir := m + c.path
		files = append(files, dir, dir+"/cgroup.procs", dir+"/tasks")
	}
	for i, f := range files {
		err := os.Lchown(f, int(o.UID), int(o.GID))
		if err != nil && !(errors.Is(err, os.ErrNotExist) && i > 0) {
			return fmt.Errorf("delegate cgroup: %w", err)
		}
	}
	return nil
}
