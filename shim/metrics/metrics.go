// SPDX-License-Identifier: Apache-2.0

// Package metrics reads what the kernel counts for the cgroup of a container, in the messages
// that containerd's callers (CRI, ctr) decode: *stats.Metrics of containerd/cgroups'
// cgroup1 or cgroup2.
//
// What does not belong here: making, limiting or removing cgroups, and the usage that
// the runtime itself needs (package cgroup).
package metrics

import (
	"fmt"
	"os"
	"sync"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"sysbox/runtime/cgroup"
)

// Reader reads the metrics of the cgroup of one container. It is safe for concurrent
// use.
type Reader struct {
	dirs cgroup.Directories
	path string // for errors

	mu       sync.Mutex
	last     proto.Message // guarded by mu: the last complete result
	oomKills uint64        // guarded by mu: the highest count seen
}

// NewReader returns the Reader of a cgroup. It reads nothing before Read.
func NewReader(c *cgroup.Cgroup) *Reader {
	return &Reader{dirs: c.Directories(), path: c.Path()}
}

// Read returns *stats.Metrics of cgroup1 if any version 1 hierarchy is mounted, otherwise of
// cgroup2. If the cgroup is gone, since systemd may remove it with its last process, Read
// returns the last result with the highest count of OOM kills seen.
func (r *Reader) Read() (proto.Message, error) {
	var m proto.Message
	var err error
	if len(r.dirs.V1) > 0 {
		m, err = r.read1()
	} else {
		m, err = r.read2()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if gone(err) && r.last != nil {
			return r.last, nil
		}
		return nil, fmt.Errorf("read the statistics of cgroup %s: %w", r.path, err)
	}
	switch m := m.(type) {
	case *v1.Metrics:
		if o := m.MemoryOomControl; o != nil {
			o.OomKill = max(o.OomKill, r.oomKills)
			r.oomKills = o.OomKill
		}
	case *v2.Metrics:
		if e := m.MemoryEvents; e != nil {
			e.OomKill = max(e.OomKill, r.oomKills)
			r.oomKills = e.OomKill
		}
	}
	r.last = m
	return m, nil
}

func missing(dir string) error {
	return &os.PathError{Op: "stat", Path: dir, Err: unix.ENOENT}
}
