package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
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

const (
	// hostCgroups is how many memory cgroups the kernel has for all of a host
	// (MEM_CGROUP_ID_MAX). With none left no container starts, and no service.
	hostCgroups = 65535
	// ownCgroups are kept for the host: its services, the containers themselves, those of
	// other runtimes.
	ownCgroups = 8192
	// mostCgroups is what a container gets at the most, and leastCgroups at the least. A
	// booted Debian with Docker has 12, and one more for each container in it; a Kubernetes
	// node has four or five for each pod, and can have 110.
	mostCgroups, leastCgroups = 2048, 64
	// sharers is how many containers could have the most before the shares fall.
	sharers = 6
)

// Share is how many cgroups a container may have below its own when it comes to others, and
// the version 2 hierarchy has used cgroups.
//
// Nobody is there to adjust it later, so the shares are such that all together are safe for
// good. Of the containers that are there at one time, the one that was made first had met 0
// others or more, the next 1 or more, and so on, and who meets more gets no more. So their
// shares are at most Share(0) + Share(1) + …, whoever has come and gone in between: for 400
// containers 57,220, which the host does not keep (TestShares). Beyond those each adds
// leastCgroups.
//
// Where the rest of the host has taken more than is kept for it, a container gets an eighth
// of what is left.
func Share(others, used int) int {
	share := max(leastCgroups, mostCgroups*sharers/(others+sharers))
	return max(0, min(share, (hostCgroups-ownCgroups-used)/8))
}

// Delegate gives the version 2 directory and its files that manage sub-cgroups to the
// container's root, with a limit on their number: what the spec says
// (linux.resources.unified, cgroup.max.descendants) or [Share]. others is how many
// containers there are besides.
// The warnings are for who runs the container.
//
// No version 1 hierarchy is delegated, not even name=systemd: they have no such limit, and
// a cgroup takes 4 to 9 KB of the kernel's memory, which counts for nobody.
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
			// Without the right to, this process is below a limit of somebody else's.
			if err := writeFile(dir+"/cgroup.max.descendants", strconv.Itoa(share)); err != nil && !errors.Is(err, os.ErrPermission) {
				return nil, fmt.Errorf("limit the cgroups of a container: %w", err)
			}
			if share < leastCgroups {
				warnings = append(warnings, fmt.Sprintf("the host has few cgroups left of the kernel's %d: this container may have %d below its own; remove what the host does not need, or give a number as cgroup.max.descendants in linux.resources.unified", hostCgroups, share))
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

// used is how many cgroups the version 2 hierarchy has, as far as this process sees.
func (l *Layout) used() int {
	text, err := readFile(l.Unified + "/cgroup.stat")
	if err != nil {
		return 0 // before Linux 4.14, or a cgroup of somebody else's
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, "nr_descendants "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	return 0
}
