// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"bytes"
	"os"
	"strconv"
)

// user is a process whose user namespace maps ids of the host.
type user struct {
	pid      string
	uid, gid Map
}

// pids lists /proc.
func pids() ([]string, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	out := names[:0]
	for _, n := range names {
		if _, err := strconv.Atoi(n); err == nil {
			out = append(out, n)
		}
	}
	return out, nil
}

// users are the processes of the host in user namespaces that map only part of the
// ids. A nested namespace shows host ids, too: those that a reader outside of it
// sees (user_namespaces(7)).
func users() ([]user, error) {
	list, err := pids()
	if err != nil {
		return nil, err
	}
	var out []user
	for _, p := range list {
		uid, err := readMap("/proc/" + p + "/uid_map")
		if err != nil || len(uid) == 0 || uid.Len() == noID {
			continue // exited meanwhile; not yet mapped; or in the namespace of the host
		}
		gid, err := readMap("/proc/" + p + "/gid_map")
		if err != nil {
			continue
		}
		out = append(out, user{p, uid, gid})
	}
	return out, nil
}

// holder returns the pid of a process that can use ids of the range, or "".
func holder(list []user, r Range) string {
	for _, u := range list {
		for _, m := range [2]Map{u.uid, u.gid} {
			for _, e := range m {
				if e.host().overlaps(r) && !dead(u.pid) {
					return u.pid
				}
			}
		}
	}
	return ""
}

// dead reports whether a process has exited and only waits to be reaped. The first
// thread of a living process can be a zombie, too; then other threads exist.
func dead(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return true
	}
	// The name, in parentheses, may contain any byte; the state follows.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 || i+2 >= len(b) || b[i+2] != 'Z' && b[i+2] != 'X' {
		return false
	}
	tasks, err := os.ReadDir("/proc/" + pid + "/task")
	return err != nil || len(tasks) < 2
}
