// SPDX-License-Identifier: Apache-2.0

// Package leak tells what a test has left: it takes a snapshot before and compares after.
// It looks at what the run has of its own (package private): the processes, cgroups, mounts
// and links that are to be seen from its namespaces. Of what a machine has but once, FUSE
// connections and loop devices, it takes those that the run's mounts and files are on.
//
// What does not belong here: cleaning up. A leak that is tidied away is not
// found.
package leak

import (
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
	"sysbox/tests/pace"
	"sysbox/tests/private"
)

// Options name what is looked at besides the host itself.
type Options struct {
	// Dirs are folders in which no file may be left, such as the shim's state
	// folder.
	Dirs []string
	// Match picks processes by their command line; those of others are not
	// ours to judge. nil: none.
	Match func(cmdline string) bool
	// Open are pids of processes that live on and in which no file may stay
	// open.
	Open []int
	// Service is how the names of containerd's own cgroups begin, which come and go with
	// it; "" if it has none. What is in them is looked at.
	Service string
}

// Snapshot is what there was: a kind and a name for each thing.
type Snapshot map[string]map[string]bool

// Take looks at the host.
func Take(o Options) (Snapshot, error) {
	s := Snapshot{}
	for kind, f := range map[string]func(Options) ([]string, error){
		"mount": mounts, "cgroup": cgroups, "process": processes, "namespace": namespaces,
		"FUSE connection": fuse, "network link": links, "shim socket": sockets, "file": files, "loop device": loops,
		"descriptor": descriptors,
	} {
		list, err := f(o)
		if err != nil {
			return nil, fmt.Errorf("look for a %s: %w", kind, err)
		}
		s[kind] = map[string]bool{}
		for _, x := range list {
			s[kind][x] = true
		}
	}
	return s, nil
}

// Compare returns a sentence for each thing that is there now and was not
// before. It waits a little for what is just ending.
func Compare(before Snapshot, o Options) ([]string, error) {
	deadline := time.Now().Add(5 * time.Second * pace.Patience())
	for {
		now, err := Take(o)
		if err != nil {
			return nil, err
		}
		if out := before.missing(now); len(out) == 0 || time.Now().After(deadline) {
			return out, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// missing has a sentence for each thing of another snapshot that this one does not have.
func (s Snapshot) missing(other Snapshot) []string {
	var out []string
	for kind, things := range other {
		for x := range things {
			if !s[kind][x] {
				out = append(out, "a "+kind+" is left: "+x)
			}
		}
	}
	slices.Sort(out)
	return out
}

func mounts(Options) ([]string, error) {
	var out []string
	for m, err := range sys.MountsOf("/proc/self/mountinfo") {
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("%s (mount %d)", m.Point, m.ID))
	}
	return out, nil
}

func pids() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, n)
		}
	}
	return out, nil
}

func processes(o Options) ([]string, error) {
	list, err := pids()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, pid := range list {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		line := strings.ReplaceAll(strings.TrimRight(string(b), "\x00"), "\x00", " ")
		if o.Match != nil && o.Match(line) {
			out = append(out, fmt.Sprintf("%d (%s)", pid, line))
		}
	}
	return out, nil
}

// kinds are those of /proc/PID/ns that a container may have of its own.
var kinds = []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}

// namespaces are those that threads live in. What a mount pins is found among
// the mounts, as nsfs.
func namespaces(Options) ([]string, error) {
	tasks, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, dir := range tasks {
		for _, kind := range kinds {
			if ns, err := os.Readlink(filepath.Join(dir, kind)); err == nil {
				seen[ns] = true
			}
		}
	}
	return slices.Collect(maps.Keys(seen)), nil
}

// descriptors are the files that processes have open, by what they are of and
// how many: a socket's number says nothing.
func descriptors(o Options) ([]string, error) {
	var out []string
	for _, pid := range o.Open {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		count := map[string]int{}
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err != nil {
				continue // closed while we look
			}
			if kind, _, ok := strings.Cut(target, ":["); ok && (kind == "socket" || kind == "pipe") {
				target = kind
			}
			count[target]++
			out = append(out, fmt.Sprintf("%s in process %d, number %d of them", target, pid, count[target]))
		}
	}
	return out, nil
}

// connections has a folder for each FUSE file system of the machine, where fusectl is
// mounted. Its name is the minor number of the file system's device.
const connections = "/sys/fs/fuse/connections"

// fuse are the connections of file systems that a process of this run can have mounted.
func fuse(Options) ([]string, error) {
	list, err := names(connections)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	processes, err := pids()
	if err != nil {
		return nil, err
	}
	seen, devices := map[string]bool{}, map[string]bool{}
	for _, pid := range processes {
		dir := fmt.Sprintf("/proc/%d/", pid)
		ns, err := os.Readlink(dir + "ns/mnt")
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		for m, err := range sys.MountsOf(dir + "mountinfo") {
			if err != nil {
				delete(seen, ns) // it has ended; another process may be in that namespace
				break
			}
			if strings.HasPrefix(m.Type, "fuse") {
				devices[strconv.FormatUint(uint64(unix.Minor(m.Dev)), 10)] = true
			}
		}
	}
	return slices.DeleteFunc(list, func(c string) bool { return !devices[filepath.Base(c)] }), nil
}

// links are asked of the kernel: a sysfs shows the network namespace that it
// was mounted in.
func links(Options) ([]string, error) {
	list, err := net.Interfaces()
	var out []string
	for _, l := range list {
		out = append(out, l.Name)
	}
	return out, err
}

func sockets(Options) ([]string, error) { return names("/run/containerd/s") }

// loops are the loop devices on files of this run.
func loops(Options) ([]string, error) {
	list, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	return slices.DeleteFunc(list, func(name string) bool {
		b, err := os.ReadFile(name)
		return err != nil || !strings.HasPrefix(string(b), private.Dir())
	}), err
}

func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil // not there: nothing in it
	}
	var out []string
	for _, e := range entries {
		out = append(out, filepath.Join(dir, e.Name()))
	}
	return out, nil
}

// Standing are names of files that a state folder keeps between containers: locks, and the link to
// the ids of the host.
var Standing = []string{"lock", "ids"}

func files(o Options) ([]string, error) {
	var out []string
	for _, dir := range o.Dirs {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !slices.Contains(Standing, d.Name()) {
				out = append(out, p)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		// Storage is a folder of folders; none of a container's may be left.
		storage, _ := filepath.Glob(filepath.Join(dir, "storage/*/*"))
		out = append(out, storage...)
	}
	return out, nil
}
