// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"fmt"
	"strings"
)

// Mapping maps Size ids starting at ContainerID to those starting at HostID.
type Mapping struct{ ContainerID, HostID, Size uint32 }

// Map is the content of a uid_map or gid_map (user_namespaces(7)).
type Map []Mapping

// Range is Size host ids starting at HostID.
type Range struct{ HostID, Size uint32 }

// String is "first-last".
func (r Range) String() string {
	if r.Size == 0 {
		return "no ids"
	}
	return fmt.Sprintf("%d-%d", r.HostID, r.end()-1)
}

// end is the first id after the range.
func (r Range) end() uint64 { return uint64(r.HostID) + uint64(r.Size) }

func (r Range) overlaps(o Range) bool {
	return uint64(r.HostID) < o.end() && uint64(o.HostID) < r.end()
}

func (m Mapping) host() Range { return Range{m.HostID, m.Size} }

// container is the other side of the mapping.
func (m Mapping) container() Range { return Range{m.ContainerID, m.Size} }

// ToHost returns the host id of a container id; false if it is not mapped.
func (m Map) ToHost(id uint32) (uint32, bool) {
	for _, e := range m {
		if id >= e.ContainerID && id-e.ContainerID < e.Size {
			return e.HostID + (id - e.ContainerID), true
		}
	}
	return 0, false
}

// ToContainer returns the container id of a host id; false if it is not mapped.
func (m Map) ToContainer(id uint32) (uint32, bool) {
	for _, e := range m {
		if id >= e.HostID && id-e.HostID < e.Size {
			return e.ContainerID + (id - e.HostID), true
		}
	}
	return 0, false
}

// Len is the number of ids in the map.
func (m Map) Len() uint64 {
	var n uint64
	for _, e := range m {
		n += uint64(e.Size)
	}
	return n
}

// String returns the form of /proc/PID/uid_map: lines of "container host size".
func (m Map) String() string {
	var b strings.Builder
	for _, e := range m {
		fmt.Fprintf(&b, "%d %d %d\n", e.ContainerID, e.HostID, e.Size)
	}
	return b.String()
}

// Parse reads the form of /proc/PID/uid_map, or the "container:host:size" of
// containerd's mount options.
func Parse(s string) (Map, error) {
	var m Map
	for _, line := range strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == ',' }) {
		var e Mapping
		if _, err := fmt.Sscanf(strings.ReplaceAll(line, ":", " "), "%d %d %d", &e.ContainerID, &e.HostID, &e.Size); err != nil {
			return nil, fmt.Errorf("%q is not an id mapping; use three numbers: first container id, first host id, size", line)
		}
		m = append(m, e)
	}
	return m, m.Check()
}
