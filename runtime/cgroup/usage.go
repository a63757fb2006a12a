// SPDX-License-Identifier: Apache-2.0

package cgroup

import "strconv"

// Memory returns the memory limit and usage of the container, in bytes. A limit of 0
// means no limit, or unknown.
func (c *Cgroup) Memory() (limit, used uint64) {
	switch c.layout.version("memory") {
	case 1:
		return number(c.dir("memory") + "/memory.limit_in_bytes"), number(c.dir("memory") + "/memory.usage_in_bytes")
	case 2:
		return number(c.layout.Unified + c.path + "/memory.max"), number(c.layout.Unified + c.path + "/memory.current")
	}
	return 0, 0
}

// Tasks is the number of threads of the container; 0 if unknown.
func (c *Cgroup) Tasks() uint64 {
	switch c.layout.version("pids") {
	case 1:
		return number(c.dir("pids") + "/pids.current")
	case 2:
		return number(c.layout.Unified + c.path + "/pids.current")
	}
	return 0
}

// number reads a file with a number; it returns 0 for "max" and on errors.
func number(name string) uint64 {
	s, err := readFile(name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
