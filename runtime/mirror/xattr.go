// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"strings"

	"golang.org/x/sys/unix"
)

// capability is the attribute with the capabilities of a program: struct vfs_ns_cap_data of
// capability(7). Its revision 3 ends with the root id of the user namespace in which the
// capabilities apply.
const (
	capability      = "security.capability"
	capabilitySize2 = 20
	capabilitySize3 = 24
	revisionMask    = 0xff000000
	revision2       = 0x02000000
	revision3       = 0x03000000
)

// xattr answers calls about extended attributes.
func (m *Mirror) xattr(r *request) ([]byte, error) {
	f, err := m.handle(r.node)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	at := fdPath(f) // leads to the file itself, even if it is a link
	if r.opcode == opListxattr {
		return sized(r, func(b []byte) (int, error) { return unix.Listxattr(at, b) })
	}
	size := 8
	if r.opcode == opRemovexattr {
		size = 0
	}
	name, err := r.text(size, 0)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, "system.posix_acl_") {
		return nil, unix.EOPNOTSUPP // they contain ids
	}
	switch r.opcode {
	case opRemovexattr:
		return nil, unix.Removexattr(at, name)
	case opSetxattr:
		value := r.data[min(size+len(name)+1, len(r.data)):]
		return nil, unix.Setxattr(at, name, value[:min(len(value), int(r.u32(0)))], int(r.u32(4)))
	}
	return sized(r, func(b []byte) (int, error) {
		if name != capability {
			return unix.Getxattr(at, name, b)
		}
		value := make([]byte, capabilitySize3)
		n, err := unix.Getxattr(at, name, value)
		if err != nil {
			return n, err
		}
		value = m.capabilities(value[:n])
		if b != nil && copy(b, value) < len(value) {
			return 0, unix.ERANGE
		}
		return len(value), nil
	})
}

// capabilities translates capabilities for the root of the container into capabilities for any
// root, as in the image.
func (m *Mirror) capabilities(value []byte) []byte {
	if len(value) != capabilitySize3 {
		return value
	}
	// The attribute is little-endian on all machines.
	u32 := func(at int) uint32 {
		return uint32(value[at]) | uint32(value[at+1])<<8 | uint32(value[at+2])<<16 | uint32(value[at+3])<<24
	}
	root, ok := m.uid.ToContainer(u32(capabilitySize2))
	if u32(0)&revisionMask != revision3 || !ok || root != 0 {
		return value
	}
	value[3] = revision2 >> 24
	return value[:capabilitySize2]
}

// sized answers with the result of get, or with its size if the caller asks for the size.
func sized(r *request, get func([]byte) (int, error)) ([]byte, error) {
	room := r.u32(0)
	if room == 0 {
		n, err := get(nil)
		b := make([]byte, 8)
		order.PutUint32(b, uint32(max(n, 0)))
		return b, err
	}
	b := make([]byte, min(room, maxWrite))
	n, err := get(b)
	return b[:max(n, 0)], err
}
