// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// delegatable are the files of a v2 cgroup that its delegatee may own, from the list of the
// kernel.
var delegatable = sync.OnceValue(func() []string {
	b, err := os.ReadFile("/sys/kernel/cgroup/delegate")
	if err != nil {
		return []string{"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"}
	}
	return strings.Fields(string(b))
})

const (
	// hostCgroups is how many memory cgroups the kernel supports on a host
	// (MEM_CGROUP_ID_MAX). Without a free one no container and no service starts.
	hostCgroups = 65535
	// ownCgroups are reserved for the host: its services, the containers themselves, and
	// containers of other runtimes.
	ownCgroups = 8192
	// mostCgroups and leastCgroups are the largest and the smallest share of a container. A
	// booted Debian with Docker has 12, and one more for each container in it; a Kubernetes
	// node has four or five for each pod, and can have 110.
	mostCgroups, leastCgroups = 2048, 64
	// sharers is how many containers can get the largest share before the shares shrink.
	sharers = 6
)

// Share is how many cgroups a container may have below its own when others containers exist
// and the version 2 hierarchy has used cgroups.
//
// Shares are never adjusted later, so any set of containers must be safe together. Among the
// containers that exist at one time, the first to be made found 0 or more others, the next 1
// or more, and so on, and a container that found more others got no larger share. So their
// shares sum up to at most Share(0) + Share(1) + …, whatever was created and deleted in
// between: for 400 containers that is 57,220, which is below what is not reserved for the host
// (TestShares). Each further container adds leastCgroups.
//
// If the rest of the host uses more than its reserve, a container gets an eighth of what is
// left.
func Share(others, used int) int {
	share := max(leastCgroups, mostCgroups*sharers/(others+sharers))
	return max(0, min(share, (hostCgroups-ownCgroups-used)/8))
}

// Delegate gives root of the container the version 2 directory and its files that manage
// sub-cgroups, and limits their number: to the value in the spec
// (linux.resources.unified, cgroup.max.descendants) or to [Share]. others is the number of
// other containers. The warnings are for the operator of the container.
//
// No version 1 hierarchy is delegated, not even name=systemd: version 1 has no such limit, and
// a cgroup takes 4 to 9 KB of kernel memory that is charged to nobody.
func (c *Cgroup) Delegate(o Owner, others int) (warnings []string, err error) {
	var files []string
	if c.layout.Unified != "" {
		dir := c.layout.Unified + c.path
		if !c.descendants {
			used := 0
			if c.layout.version("memory") == 2 {
				used = c.layout.used()
			}
			share := Share(others, used)
			// Without permission to write it, a limit set by others already applies to this process.
			if err := writeFile(dir+"/cgroup.max.descendants", strconv.Itoa(share)); err != nil && !errors.Is(err, os.ErrPermission) {
				return nil, fmt.Errorf("limit the cgroups of a container: %w", err)
			}
			if share < leastCgroups {
				warnings = append(warnings, fmt.Sprintf("the host has few of its %d cgroups left, so this container may have %d below its own; remove unused cgroups or set cgroup.max.descendants in linux.resources.unified", hostCgroups, share))
			}
		}
		files = append(files, dir)
		for _, f := range delegatable() {
			files = append(files, dir+"/"+f)
		}
	}
	for i, f := range files {
		err := os.Lchown(f, int(o.UID), int(o.GID))
		if err != nil && !(errors.Is(err, os.ErrNotExist) && i > 0) {
			return nil, fmt.Errorf("delegate cgroup: %w", err)
		}
	}
	return warnings, nil
}

// used is the number of cgroups in the version 2 hierarchy, as far as this process can see.
func (l *Layout) used() int {
	text, err := readFile(l.Unified + "/cgroup.stat")
	if err != nil {
		return 0 // before Linux 4.14, or not readable
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, "nr_descendants "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	return 0
}
