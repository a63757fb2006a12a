// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Hierarchy is one mounted cgroup v1 hierarchy.
type Hierarchy struct {
	Mount       string   `json:"mount"`       // the mount point
	Controllers []string `json:"controllers"` // as mount options name them: "cpu", "cpuacct", "name=systemd"
}

// Layout is how the cgroup hierarchies of the host are mounted.
type Layout struct {
	V1      []Hierarchy `json:"v1,omitempty"`
	Unified string      `json:"unified,omitempty"` // mount point of cgroup2, "" if not mounted
	// Own is true if the host has not mounted cgroup2; then Unified leads to a mount that
	// only this process has.
	Own bool `json:"own,omitempty"`
	// V2Controllers is the content of cgroup.controllers at Unified.
	V2Controllers []string `json:"v2_controllers,omitempty"`
}

// Host returns the layout of this host, read once per process. If the host has not mounted
// cgroup2 and only uses version 1 controllers, this process gets a private mount of cgroup2:
// containers have their trees in it.
var Host = sync.OnceValues(func() (*Layout, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cgroup layout: %w", err)
	}
	defer f.Close()
	l, err := ParseLayout(f, sys.MountInfo.Reached)
	if err != nil || l.Unified != "" {
		return l, err
	}
	l.Own = true
	if l, err = l.resolve(); err != nil {
		return nil, fmt.Errorf("cgroup layout: %w", err)
	}
	if l.V2Controllers, err = controllers(l.Unified); err != nil {
		return nil, err
	}
	return l, nil
})

// ownUnified mounts cgroup2 for this process as long as the file is open. The kernel has
// only one such hierarchy, whichever process mounts it.
var ownUnified = sync.OnceValues(func() (*os.File, error) {
	fs, err := sys.Fsopen("cgroup2")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := fs.Create(); err != nil {
		return nil, err
	}
	return fs.Mount(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC)
})

// resolve returns a saved layout as this process can use it.
func (l *Layout) resolve() (*Layout, error) {
	if !l.Own {
		return l, nil
	}
	mount, err := ownUnified()
	if err != nil {
		return nil, fmt.Errorf("mount cgroup2, which the host has not mounted: %w", err)
	}
	own := *l
	own.Unified = fmt.Sprintf("/proc/self/fd/%d", mount.Fd())
	return &own, nil
}

func controllers(unified string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(unified, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("cgroup layout: %w", err)
	}
	return strings.Fields(string(b)), nil
}

// ParseLayout reads a layout from text in the form of /proc/PID/mountinfo
// (proc_pid_mountinfo(5)) and from the file cgroup.controllers of the cgroup2 mount in
// it. It ignores mounts that are not reachable: what is mounted over them would be
// taken for a hierarchy. Of several mounts of one hierarchy it takes that of the whole
// tree.
func ParseLayout(mountinfo io.Reader, reached func(sys.MountInfo) bool) (*Layout, error) {
	l := &Layout{}
	var parts []sys.MountInfo
	for m, err := range sys.Mounts(mountinfo) {
		switch {
		case err != nil:
			return nil, fmt.Errorf("cgroup layout: %w", err)
		case m.Type != "cgroup" && m.Type != "cgroup2" || !reached(m):
		case m.Root == "/":
			l.add(m)
		default:
			parts = append(parts, m)
		}
	}
	for _, m := range parts {
		l.add(m)
	}
	if l.Unified != "" {
		var err error
		if l.V2Controllers, err = controllers(l.Unified); err != nil {
			return nil, err
		}
	}
	if l.Unified == "" && len(l.V1) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup")
	}
	return l, nil
}

// add adds a hierarchy unless another mount of it is there already.
func (l *Layout) add(m sys.MountInfo) {
	if m.Type == "cgroup2" {
		if l.Unified == "" {
			l.Unified = m.Point
		}
		return
	}
	var ctrls []string
	for o := range strings.SplitSeq(m.SuperOptions, ",") {
		switch {
		case slices.Contains(v1Controllers, o), strings.HasPrefix(o, "name="):
			ctrls = append(ctrls, o)
		}
	}
	if len(ctrls) == 0 {
		return
	}
	for _, h := range l.V1 {
		if slices.Contains(h.Controllers, ctrls[0]) {
			return
		}
	}
	l.V1 = append(l.V1, Hierarchy{Mount: m.Point, Controllers: ctrls})
}

// v1Controllers are all that the kernel has ever had (kernel/cgroup, 6.18).
var v1Controllers = []string{
	"cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer",
	"net_cls", "perf_event", "net_prio", "hugetlb", "pids", "rdma", "misc", "debug",
}

// Mode is the name of the layout in documents: "v1", "hybrid" or "v2".
func (l *Layout) Mode() string {
	switch {
	case l.Unified == "":
		return "v1"
	case len(l.V1) > 0:
		return "hybrid"
	}
	return "v2"
}

// v1 returns the v1 mount of a controller, or "".
func (l *Layout) v1(controller string) string {
	for _, h := range l.V1 {
		if slices.Contains(h.Controllers, controller) {
			return h.Mount
		}
	}
	return ""
}

// version says which version has a controller: 1, 2, or 0 for neither.
func (l *Layout) version(controller string) int {
	if l.v1(controller) != "" {
		return 1
	}
	if l.Unified != "" && slices.Contains(l.V2Controllers, controller) {
		return 2
	}
	return 0
}

// mounts returns the mount points of all hierarchies, the unified one last.
func (l *Layout) mounts() []string {
	m := make([]string, 0, len(l.V1)+1)
	for _, h := range l.V1 {
		m = append(m, h.Mount)
	}
	if l.Unified != "" {
		m = append(m, l.Unified)
	}
	return m
}
