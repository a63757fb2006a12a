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

// Delegate gives the directory and the files that manage sub-cgroups to the
// container's root.
func (c *Cgroup) Delegate(o Owner) error {
	var files []string
	if c.layout.Unified != "" {
		dir := c.layout.Unified + c.path
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
