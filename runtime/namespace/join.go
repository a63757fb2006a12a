// SPDX-License-Identifier: Apache-2.0

// Package namespace is the host's side of a container's namespaces: those that it joins, and
// what is written into new ones from outside.
//
// What does not belong here: which namespaces a container has (package plan), and entering
// them, which its processes' programs do (package process).
package namespace

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
)

// Join is a namespace that init joins instead of making it.
type Join struct {
	Kind int // CLONE_NEW*
	File *os.File
}

// kinds in the order in which a process of the host's root joins them: the
// user namespace last, because in it the process loses its power over namespaces of the host.
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

// Open opens the namespaces that the plan joins by path; podUser is the
// pod's own user namespace, for a plan that joins it without a path. The
// host's own are refused, however the path leads to them.
func Open(ns plan.Namespaces, podUser *os.File) (_ []Join, err error) {
	var out []Join
	defer func() {
		if err != nil {
			Close(out)
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
		out = append(out, Join{k.flag, f})
		kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
		if err != nil || kind != k.flag {
			return out, fmt.Errorf("linux.namespaces: path %s is not a namespace of the kind %q", p, k.name)
		}
		if same, err := isHosts(f, k.name); err != nil {
			return out, err
		} else if same {
			return out, fmt.Errorf("linux.namespaces: path %s is the host's own %s namespace, which would break the container's isolation; leave the path out for a new one", p, k.name)
		}
	}
	return out, nil
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

// Close closes their files.
func Close(js []Join) {
	for _, j := range js {
		j.File.Close()
	}
}

// Entered are the flags of all namespaces in which a container's processes
// differ from the shim.
func Entered(ns plan.Namespaces) uint64 {
	flags := uint64(unix.CLONE_NEWNS)
	for _, k := range kinds(ns) {
		if k.ns.Mode == plan.NamespaceNew || k.ns.Mode == plan.NamespaceJoin {
			flags |= uint64(k.flag)
		}
	}
	return flags
}
