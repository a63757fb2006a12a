package uidmap

import (
	"fmt"
	"slices"
)

const (
	// MaxLines is the greatest number of lines of a mapping, Linux 4.15.
	MaxLines = 340
	// MinIDs is the least number of ids for a system container: distributions
	// give out ids up to 65534 (nobody).
	MinIDs = 65536
	// noID is (uid_t)-1, which no process or file can have.
	noID = 1<<32 - 1
)

// Check tells in a sentence why the kernel would refuse the mapping.
func (m Map) Check() error {
	if len(m) == 0 {
		return fmt.Errorf("the mapping is empty; give at least one line")
	}
	if len(m) > MaxLines {
		return fmt.Errorf("the mapping has %d lines, and the kernel takes %d; give fewer, larger ones", len(m), MaxLines)
	}
	for i, e := range m {
		if e.Size == 0 {
			return fmt.Errorf("line %d of the mapping, %v, has size 0; give a size", i, e)
		}
		if e.host().end() > noID || e.container().end() > noID {
			return fmt.Errorf("line %d of the mapping, %v, goes beyond the last id, 4294967294; make it smaller", i, e)
		}
		for _, o := range m[:i] {
			if e.host().overlaps(o.host()) || e.container().overlaps(o.container()) {
				return fmt.Errorf("line %d of the mapping, %v, overlaps %v; map each id once", i, e, o)
			}
		}
	}
	return nil
}

// CheckContainer adds to [Map.Check] what a system container needs: ids from 0
// on without a gap, [MinIDs] of them, the host's root not among them.
func (m Map) CheckContainer() error {
	if err := m.Check(); err != nil {
		return err
	}
	sorted := slices.Clone(m)
	slices.SortFunc(sorted, func(a, b Mapping) int { return int(int64(a.ContainerID) - int64(b.ContainerID)) })
	var next uint64
	for _, e := range sorted {
		if uint64(e.ContainerID) != next {
			return fmt.Errorf("container id %d is not mapped; map ids from 0 on without a gap", next)
		}
		if e.HostID == 0 {
			return fmt.Errorf("the mapping %v has the host's root in it; use host ids that belong to nobody", e)
		}
		next += uint64(e.Size)
	}
	if next < MinIDs {
		return fmt.Errorf("the mapping has %d ids, and a system container needs %d; map more", next, MinIDs)
	}
	return nil
}
