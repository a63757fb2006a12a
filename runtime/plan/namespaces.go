package plan

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/uidmap"
)

// hostNamespace says for each namespace that a container must not share with
// the host why, and which options of callers ask for it.
var hostNamespace = []struct {
	typ         specs.LinuxNamespaceType
	why, wayOut string
}{
	{specs.PIDNamespace, "the container would see and signal the host's processes", `leave out --pid=host (Kubernetes: hostPID)`},
	{specs.NetworkNamespace, "the container would use the host's network, where its root has no rights", `leave out --net=host (Kubernetes: hostNetwork) and publish ports instead`},
	{specs.IPCNamespace, "the container would share memory and queues with the host", `leave out --ipc=host (Kubernetes: hostIPC)`},
	{specs.UTSNamespace, "the container would share the host's name", `leave out --uts=host`},
	{specs.MountNamespace, "the container would see the host's mounts", `add {"type": "mount"}`},
}

func makeNamespaces(l *specs.Linux, p *Plan) error {
	found := map[specs.LinuxNamespaceType]Namespace{}
	for i, n := range l.Namespaces {
		field := item("linux.namespaces", i)
		switch n.Type {
		case specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace,
			specs.MountNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace:
		default:
			return refuse(field+".type", string(n.Type), "Linux has no such namespace", "known are pid, network, ipc, uts, mount, user, cgroup and time")
		}
		if _, twice := found[n.Type]; twice {
			return refuse(field+".type", string(n.Type), "it comes twice", "give each namespace once")
		}
		ns := Namespace{Mode: NamespaceNew}
		if n.Path != "" {
			if err := checkString(field+".path", n.Path, maxPath); err != nil {
				return err
			}
			if !path.IsAbs(n.Path) {
				return refuse(field+".path", n.Path, "it is not an absolute path", "give one")
			}
			ns = Namespace{Mode: NamespaceJoin, Path: path.Clean(n.Path)}
			if underAny(ns.Path, hostPaths...) {
				return refuse(field+".path", n.Path, "it is a namespace of the host's own", "leave the path out to get a new one")
			}
		}
		found[n.Type] = ns
	}
	for _, h := range hostNamespace {
		if _, ok := found[h.typ]; !ok {
			return refuse("linux.namespaces", "", fmt.Sprintf("it has no %q, so %s", h.typ, h.why), h.wayOut)
		}
	}
	if m := found[specs.MountNamespace]; m.Mode == NamespaceJoin {
		return refuse("linux.namespaces mount path", m.Path, "a container always gets a mount tree of its own, which is what guards its mounts", "leave the path out")
	}
	n := &p.Namespaces
	n.PID, n.Network, n.IPC, n.UTS = found[specs.PIDNamespace], found[specs.NetworkNamespace], found[specs.IPCNamespace], found[specs.UTSNamespace]
	n.User, n.Cgroup, n.Time = Namespace{Mode: NamespaceNew}, Namespace{Mode: NamespaceNew}, Namespace{Mode: NamespaceHost}
	if u, ok := found[specs.UserNamespace]; ok {
		n.User = u // the caller of Make's plan compares inodes with the host's own, as for the others
	}
	if c := found[specs.CgroupNamespace]; c.Mode == NamespaceJoin {
		n.Cgroup = c
	}
	if t, ok := found[specs.TimeNamespace]; ok {
		n.Time = t
	}
	return timeOffsets(l, n)
}

// hostPaths hold the host's own namespaces, as far as that can be told without
// asking the kernel. Others are found by comparing inodes when they are opened.
var hostPaths = []string{"/proc/1/ns", "/proc/self/ns", "/proc/thread-self/ns"}

func timeOffsets(l *specs.Linux, n *Namespaces) error {
	if len(l.TimeOffsets) == 0 {
		return nil
	}
	if n.Time.Mode != NamespaceNew {
		return refuse("linux.timeOffsets", fmt.Sprint(l.TimeOffsets), "offsets need a new time namespace", `add {"type": "time"} without a path to linux.namespaces`)
	}
	n.TimeOffsets = map[string]specs.LinuxTimeOffset{}
	for _, clock := range sortedKeys(l.TimeOffsets) {
		o := l.TimeOffsets[clock]
		if clock != "monotonic" && clock != "boottime" {
			return refuse("linux.timeOffsets", clock, "no such clock has an offset", "known are monotonic and boottime")
		}
		if o.Nanosecs >= 1e9 {
			return refuse("linux.timeOffsets "+clock, fmt.Sprint(o.Nanosecs), "a second has less nanoseconds than that", "raise secs instead")
		}
		n.TimeOffsets[clock] = o
	}
	return nil
}

// usualIDs is how many ids distributions give out: up to 65534 (nobody).
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
		return refuse("linux.uidMappings and gidMappings", "", "one is given without the other", "give both or none")
	}
	p.IDs.UID, p.IDs.GID = uid, gid
	if p.System && (MapsHostRoot(uid) || MapsHostRoot(gid)) {
		p.System = false
		p.note("the container is made as an ordinary one, as its mappings have the host's root, whom only masks and read-only paths keep from /proc and /sys")
	}
	user := &p.Namespaces.User
	switch {
	case user.Mode == NamespaceJoin:
		p.IDs.Source = IDsJoin // who names a user namespace has prepared the rootfs for it
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

// specMap checks mappings of the spec: they are the caller's, who has prepared the files
// for them, but the container needs a root, and the host's is the administrator's to give.
func specMap(field string, list []specs.LinuxIDMapping, in Input, p *Plan) (uidmap.Map, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m, err := idMap(field, list)
	if err != nil {
		return nil, err
	}
	if _, ok := m.ToHost(0); !ok {
		return nil, refuse(field, fmt.Sprint(list), "container id 0 is not mapped, and a container has a root", "map it")
	}
	if MapsHostRoot(m) && !in.AllowHostRoot {
		return nil, refuse(field, fmt.Sprint(list), "it maps the host's root", HostRootWayOut)
	}
	if n := m.Len(); n < usualIDs {
		p.note("%s has %d ids, and distributions give out %d", field, n, usualIDs)
	}
	slices.SortFunc(m, func(a, b uidmap.Mapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
	return m, nil
}

// MapsHostRoot tells whether an id of the container is the host's root.
func MapsHostRoot(m uidmap.Map) bool {
	_, ok := m.ToContainer(0)
	return ok
}

// HostRootWayOut is what to do about a mapping that has the host's root.
const HostRootWayOut = "use host ids that belong to nobody (or set ids.allow_host_root, and read in docs/configuration.md what that breaks)"

// idMap checks what the kernel checks of a mapping (user_namespaces(7)).
func idMap(field string, list []specs.LinuxIDMapping) (uidmap.Map, error) {
	const most = 340 // extents, Linux 4.15
	if len(list) > most {
		return nil, refuse(field, fmt.Sprint(len(list), " mappings"), fmt.Sprintf("the kernel takes at most %d", most), "give fewer, larger ones")
	}
	var m uidmap.Map
	for i, x := range list {
		f, v := item(field, i), fmt.Sprint(x)
		if x.Size == 0 {
			return nil, refuse(f, v, "its size is 0", "give a size")
		}
		if uint64(x.ContainerID)+uint64(x.Size) > noID || uint64(x.HostID)+uint64(x.Size) > noID {
			return nil, refuse(f, v, "it goes beyond the last id, 4294967294", "make it smaller")
		}
		for _, y := range list[:i] {
			if overlap(x.ContainerID, x.Size, y.ContainerID, y.Size) || overlap(x.HostID, x.Size, y.HostID, y.Size) {
				return nil, refuse(f, v, "it overlaps another mapping", "map each id once")
			}
		}
		m = append(m, uidmap.Mapping{ContainerID: x.ContainerID, HostID: x.HostID, Size: x.Size})
	}
	return m, nil
}

func overlap(a, aSize, b, bSize uint32) bool {
	return uint64(a) < uint64(b)+uint64(bSize) && uint64(b) < uint64(a)+uint64(aSize)
}

// checkID refuses an id that no process or file can have.
func checkID(field string, id uint32, m uidmap.Map) error {
	if id == noID {
		return refuse(field, fmt.Sprint(id), "it means no id at all", "give an id below 4294967295")
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
	return refuse(field, fmt.Sprint(id), fmt.Sprintf("the container's mappings, which end with %d, do not have it", last),
		"use one that they have, or map more ids (ids.range_size in the configuration, where the spec has no mappings)")
}
