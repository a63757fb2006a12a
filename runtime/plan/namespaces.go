// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/uidmap"
)

// hostNamespace lists the namespaces that a container must not share with the
// host, why, and which options of callers ask for it.
var hostNamespace = []struct {
	typ          specs.LinuxNamespaceType
	reason, hint string
}{
	{specs.PIDNamespace, "the container would see and signal the processes of the host", `remove --pid=host (Kubernetes: hostPID)`},
	{specs.NetworkNamespace, "the container would use the network of the host, on which its root has no privileges", `remove --net=host (Kubernetes: hostNetwork) and publish ports instead`},
	{specs.IPCNamespace, "the container would share memory and queues with the host", `remove --ipc=host (Kubernetes: hostIPC)`},
	{specs.UTSNamespace, "the container would share the hostname of the host", `remove --uts=host`},
	{specs.MountNamespace, "the container would see the mounts of the host", `add {"type": "mount"}`},
}

func makeNamespaces(l *specs.Linux, p *Plan) error {
	found := map[specs.LinuxNamespaceType]Namespace{}
	for i, n := range l.Namespaces {
		field := item("linux.namespaces", i)
		switch n.Type {
		case specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace,
			specs.MountNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace:
		default:
			return invalid(field+".type", string(n.Type), "Linux has no such namespace", "supported: pid, network, ipc, uts, mount, user, cgroup and time")
		}
		if _, twice := found[n.Type]; twice {
			return invalid(field+".type", string(n.Type), "it occurs twice", "list each namespace once")
		}
		ns := Namespace{Mode: NamespaceNew}
		if n.Path != "" {
			if err := checkString(field+".path", n.Path, maxPath); err != nil {
				return err
			}
			if !path.IsAbs(n.Path) {
				return invalid(field+".path", n.Path, "it must be an absolute path", "")
			}
			ns = Namespace{Mode: NamespaceJoin, Path: path.Clean(n.Path)}
			if underAny(ns.Path, hostPaths...) {
				return invalid(field+".path", n.Path, "it is a namespace of the host", "remove the path to get a new one")
			}
		}
		found[n.Type] = ns
	}
	for _, h := range hostNamespace {
		if _, ok := found[h.typ]; !ok {
			return invalid("linux.namespaces", "", fmt.Sprintf("it has no %q, so %s", h.typ, h.reason), h.hint)
		}
	}
	if m := found[specs.MountNamespace]; m.Mode == NamespaceJoin {
		return invalid("linux.namespaces mount path", m.Path, "a container always gets its own mount namespace, which protects its mounts", "remove the path")
	}
	n := &p.Namespaces
	n.PID, n.Network, n.IPC, n.UTS = found[specs.PIDNamespace], found[specs.NetworkNamespace], found[specs.IPCNamespace], found[specs.UTSNamespace]
	n.User, n.Cgroup, n.Time = Namespace{Mode: NamespaceNew}, Namespace{Mode: NamespaceNew}, Namespace{Mode: NamespaceHost}
	if u, ok := found[specs.UserNamespace]; ok {
		n.User = u // as for the others, the runtime compares its inode with that of the host
	}
	if c := found[specs.CgroupNamespace]; c.Mode == NamespaceJoin {
		n.Cgroup = c
	}
	if t, ok := found[specs.TimeNamespace]; ok {
		n.Time = t
	}
	return timeOffsets(l, n)
}

// hostPaths lead to the host's namespaces, as far as a plan can tell without
// asking the kernel. The runtime finds others by comparing inodes when it opens them.
var hostPaths = []string{"/proc/1/ns", "/proc/self/ns", "/proc/thread-self/ns"}

func timeOffsets(l *specs.Linux, n *Namespaces) error {
	if len(l.TimeOffsets) == 0 {
		return nil
	}
	if n.Time.Mode != NamespaceNew {
		return invalid("linux.timeOffsets", fmt.Sprint(l.TimeOffsets), "offsets need a new time namespace", `add {"type": "time"} without a path to linux.namespaces`)
	}
	n.TimeOffsets = map[string]specs.LinuxTimeOffset{}
	for _, clock := range sortedKeys(l.TimeOffsets) {
		o := l.TimeOffsets[clock]
		if clock != "monotonic" && clock != "boottime" {
			return invalid("linux.timeOffsets", clock, "this clock has no offset", "supported: monotonic and boottime")
		}
		if o.Nanosecs >= 1e9 {
			return invalid("linux.timeOffsets "+clock, fmt.Sprint(o.Nanosecs), "it must be less than one second", "raise secs instead")
		}
		n.TimeOffsets[clock] = o
	}
	return nil
}

// usualIDs is the number of ids that distributions use: up to 65534 (nobody).
const usualIDs = 65536

func makeIDs(l *specs.Linux, in Input, p *Plan) error {
	uid, err := specMap("linux.uidMappings", l.UIDMappings, in, p)
	if err != nil {
		return err
	}
	gid, err := specMap("linux.gidMappings", l.GIDMappings, in, p)
	if err != nil {
		return err
	}
	if (uid == nil) != (gid == nil) {
		return invalid("linux.uidMappings and gidMappings", "", "only one of the two is set", "set both or neither")
	}
	p.IDs.UID, p.IDs.GID = uid, gid
	if p.System && (MapsHostRoot(uid) || MapsHostRoot(gid)) {
		p.System = false
		p.warn("creating an ordinary container: its mappings include root of the host, and only masks and read-only paths protect /proc and /sys from that user")
	}
	user := &p.Namespaces.User
	switch {
	case user.Mode == NamespaceJoin:
		p.IDs.Source = IDsJoin // the creator of the user namespace has prepared the rootfs for it
	case uid != nil:
		p.IDs.Source = IDsSpec
	case in.PodIDs:
		*user = Namespace{Mode: NamespaceJoin}
		p.IDs.Source, p.IDs.ShiftRootfs = IDsJoin, true
	default:
		p.IDs.Source, p.IDs.ShiftRootfs = IDsAllocate, true
	}
	return nil
}

// specMap checks mappings of the spec. The caller has prepared the files for them, but
// the container needs a root, and only the administrator may map root of the host.
func specMap(field string, list []specs.LinuxIDMapping, in Input, p *Plan) (uidmap.Map, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m, err := idMap(field, list)
	if err != nil {
		return nil, err
	}
	if _, ok := m.ToHost(0); !ok {
		return nil, invalid(field, fmt.Sprint(list), "it does not map container id 0, the root of the container", "map it")
	}
	if MapsHostRoot(m) && !in.AllowHostRoot {
		return nil, invalid(field, fmt.Sprint(list), "it maps root of the host", HostRootHint)
	}
	if n := m.Len(); n < usualIDs {
		p.warn("%s has %d ids, but distributions use %d", field, n, usualIDs)
	}
	slices.SortFunc(m, func(a, b uidmap.Mapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
	return m, nil
}

// MapsHostRoot reports whether the mapping includes root of the host.
func MapsHostRoot(m uidmap.Map) bool {
	_, ok := m.ToContainer(0)
	return ok
}

// HostRootHint is the hint for a mapping that includes root of the host.
const HostRootHint = "use host ids that no user of the host has (or set ids.allow_host_root; docs/configuration.md says what that breaks)"

// idMap checks what the kernel checks of a mapping (user_namespaces(7)).
func idMap(field string, list []specs.LinuxIDMapping) (uidmap.Map, error) {
	const most = 340 // extents, Linux 4.15
	if len(list) > most {
		return nil, invalid(field, fmt.Sprint(len(list), " mappings"), fmt.Sprintf("the kernel accepts at most %d", most), "use fewer, larger ones")
	}
	var m uidmap.Map
	for i, x := range list {
		f, v := item(field, i), fmt.Sprint(x)
		if x.Size == 0 {
			return nil, invalid(f, v, "its size is 0", "set a size")
		}
		if uint64(x.ContainerID)+uint64(x.Size) > noID || uint64(x.HostID)+uint64(x.Size) > noID {
			return nil, invalid(f, v, "it goes beyond the last id, 4294967294", "make it smaller")
		}
		for _, y := range list[:i] {
			if overlap(x.ContainerID, x.Size, y.ContainerID, y.Size) || overlap(x.HostID, x.Size, y.HostID, y.Size) {
				return nil, invalid(f, v, "it overlaps another mapping", "map each id once")
			}
		}
		m = append(m, uidmap.Mapping{ContainerID: x.ContainerID, HostID: x.HostID, Size: x.Size})
	}
	return m, nil
}

func overlap(a, aSize, b, bSize uint32) bool {
	return uint64(a) < uint64(b)+uint64(bSize) && uint64(b) < uint64(a)+uint64(aSize)
}

// checkID rejects an id that no process or file can have.
func checkID(field string, id uint32, m uidmap.Map) error {
	if id == noID {
		return invalid(field, fmt.Sprint(id), "it is not a valid id", "use an id below 4294967295")
	}
	if len(m) == 0 {
		return nil
	}
	last := uint64(0)
	for _, x := range m {
		end := uint64(x.ContainerID) + uint64(x.Size)
		if id >= x.ContainerID && uint64(id) < end {
			return nil
		}
		last = max(last, end-1)
	}
	return invalid(field, fmt.Sprint(id), fmt.Sprintf("the container does not map it (its last id is %d)", last),
		"use a mapped id or map more ids (ids.range_size in the configuration if the spec has no mappings)")
}
