// SPDX-License-Identifier: Apache-2.0

package uidmap

import "fmt"

const (
	// MaxLines is the maximum number of lines of a mapping, Linux 4.15.
	MaxLines = 340
	// noID is (uid_t)-1, which no process or file can have.
	noID = 1<<32 - 1
)

// Check returns why the kernel would reject the mapping, or nil.
func (m Map) Check() error {
	if len(m) == 0 {
		return fmt.Errorf("the mapping is empty; it needs at least one line")
	}
	if len(m) > MaxLines {
		return fmt.Errorf("the mapping has %d lines, but the kernel accepts at most %d; use fewer, larger ones", len(m), MaxLines)
	}
	for i, e := range m {
		if e.Size == 0 {
			return fmt.Errorf("line %d of the mapping, %v, has size 0", i, e)
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
