package runtime

import (
	"cmp"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/uidmap"
)

// join is a namespace that init joins instead of making it.
type join struct {
	kind int // CLONE_NEW*
	file *os.File
}

// kinds in the order in which a process of the host's root joins them: the
// user namespace last, as it ends its power over namespaces of the host's.
func kinds(ns plan.Namespaces) []struct {
	name string
	flag int
	ns   plan.Namespace
} {
	return []struct {
		name string
		flag int
		ns   plan.Namespace
	}{
		{"net", unix.CLONE_NEWNET, ns.Network},
		{"ipc", unix.CLONE_NEWIPC, ns.IPC},
		{"uts", unix.CLONE_NEWUTS, ns.UTS},
		{"pid", unix.CLONE_NEWPID, ns.PID},
		{"time", unix.CLONE_NEWTIME, ns.Time},
		{"cgroup", unix.CLONE_NEWCGROUP, ns.Cgroup},
		{"user", unix.CLONE_NEWUSER, ns.User},
	}
}

// openJoins opens the namespaces that the plan joins by path; podUser is the
// pod's own user namespace, for a plan that joins it without a path. The
// host's own are refused, however the path leads to them.
func openJoins(ns plan.Namespaces, podUser *os.File) (_ []join, err error) {
	var out []join
	defer func() {
		if err != nil {
			closeJoins(out)
		}
	}()
	for _, k := range kinds(ns) {
		if k.ns.Mode != plan.NamespaceJoin {
			continue
		}
		p := k.ns.Path
		if p == "" && podUser != nil {
			p = fmt.Sprintf("/proc/self/fd/%d", podUser.Fd())
		}
		f, err := os.Open(p)
		if err != nil {
			return out, fmt.Errorf("linux.namespaces: the %s namespace: %w; give the path of a living one", k.name, err)
		}
		out = append(out, join{k.flag, f})
		kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
		if err != nil || kind != k.flag {
			return out, fmt.Errorf("linux.namespaces: path %s is no namespace of the kind %q; give the path of one", p, k.name)
		}
		if same, err := isHosts(f, k.name); err != nil {
			return out, err
		} else if same {
			return out, fmt.Errorf("linux.namespaces: path %s is the host's own %s namespace, which would break the container's isolation; leave the path out for a new one", p, k.name)
		}
	}
	return out, nil
}

// joinsUser tells whether the container's user namespace is one of its caller's.
func (c *Container) joinsUser() bool {
	user := c.plan.Namespaces.User
	return user.Mode == plan.NamespaceJoin && user.Path != ""
}

// checkJoined compares the mappings by which files are given to a container with those of
// the user namespace that it joins, and which proc, the folder of init in /proc, is in.
func (c *Container) checkJoined(proc string) error {
	if !c.joinsUser() {
		return nil
	}
	uid, gid, err := uidmap.Of(proc + "/ns/user")
	if err != nil {
		return err
	}
	return c.compareMaps(uid, gid)
}

func (c *Container) compareMaps(uid, gid uidmap.Map) error {
	user := c.plan.Namespaces.User
	for _, m := range []struct {
		field         string
		theirs, given uidmap.Map
	}{{"linux.uidMappings", uid, c.plan.IDs.UID}, {"linux.gidMappings", gid, c.plan.IDs.GID}} {
		slices.SortFunc(m.theirs, func(a, b uidmap.Mapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
		if plan.MapsHostRoot(m.theirs) && !c.cfg.IDs.AllowHostRoot {
			return fmt.Errorf("linux.namespaces: the user namespace %s maps the host's root; %s", user.Path, plan.HostRootWayOut)
		}
		if !slices.Equal(m.theirs, m.given) {
			return fmt.Errorf("%s: it is %v, and the user namespace %s has %v; give the same", m.field, m.given, user.Path, m.theirs)
		}
	}
	return nil
}

// isHosts compares a namespace with the shim's own.
func isHosts(f *os.File, name string) (bool, error) {
	theirs, err := f.Stat()
	if err != nil {
		return false, err
	}
	ours, err := os.Stat("/proc/self/ns/" + name)
	if err != nil {
		return false, err
	}
	return os.SameFile(theirs, ours), nil
}

func closeJoins(js []join) {
	for _, j := range js {
		j.file.Close()
	}
}

// entered are the flags of all namespaces in which a container's processes
// differ from the shim.
func entered(ns plan.Namespaces) uint64 {
	flags := uint64(unix.CLONE_NEWNS)
	for _, k := range kinds(ns) {
		if k.ns.Mode == plan.NamespaceNew || k.ns.Mode == plan.NamespaceJoin {
			flags |= uint64(k.flag)
		}
	}
	return flags
}
