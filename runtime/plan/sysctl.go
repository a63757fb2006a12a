// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"
)

// namespacedSysctls are those that belong to a namespace of the container.
// A name that ends in "." stands for all sysctls below it.
var namespacedSysctls = []string{
	"net.",
	"fs.mqueue.",
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.msg_next_id",
	"kernel.sem", "kernel.sem_next_id",
	"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced", "kernel.shm_next_id",
	"kernel.domainname",
}

// ProcPath is the file of the sysctl below /proc/sys. A "/" in the name is a dot
// of the file name, as with sysctl(8): "net.ipv4.conf.eth0/1.forwarding".
func (s Setting) ProcPath() string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, s.Name)
}

func makeSysctl(in Input, p *Plan) error {
	seen := map[string]bool{}
	for _, given := range sortedKeys(in.Spec.Linux.Sysctl) {
		value := in.Spec.Linux.Sysctl[given]
		field := "linux.sysctl"
		if err := noNUL(field, given+value); err != nil {
			return err
		}
		s := Setting{Name: given, Value: value}
		// sysctl(8): the first separator decides which of the two forms it is.
		if i := strings.IndexAny(given, "./"); i >= 0 && given[i] == '/' {
			s.Name = s.ProcPath()
		}
		for part := range strings.SplitSeq(s.ProcPath(), "/") {
			if part == "" || part == "." || part == ".." {
				return invalid(field, given, "it is not the name of a sysctl", "use a name such as net.ipv4.ip_forward")
			}
		}
		if s.Name == "kernel.hostname" {
			return invalid(field, given, "the hostname has its own field", `use "hostname"`)
		}
		if !slices.ContainsFunc(namespacedSysctls, func(n string) bool {
			return s.Name == n || strings.HasSuffix(n, ".") && strings.HasPrefix(s.Name, n)
		}) {
			return invalid(field, given, "it applies to the whole host", "set it on the host; a container can set net.*, fs.mqueue.*, and shm*, msg*, sem* and domainname of kernel")
		}
		if seen[s.Name] {
			return invalid(field, given, "it occurs twice", "set each sysctl once")
		}
		seen[s.Name] = true
		p.Sysctl = append(p.Sysctl, s)
	}
	slices.SortFunc(p.Sysctl, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

const pingGroupRange = "net.ipv4.ping_group_range"

// PingGroups returns the first and the last group of the container for
// net.ipv4.ping_group_range of a new network namespace. The kernel translates both to host ids
// and allows all ids between them. So the two are the groups with the lowest and the highest
// host id; if the mappings reverse their order, which the kernel rejects, those of the mapping
// of group 0. ok is false if the container joins a network namespace, if the spec has this
// sysctl, and if the mappings are not known.
func (p *Plan) PingGroups() (first, last uint32, ok bool) {
	if p.Namespaces.Network.Mode != NamespaceNew || len(p.IDs.GID) == 0 || slices.ContainsFunc(p.Sysctl, func(s Setting) bool { return s.Name == pingGroupRange }) {
		return 0, 0, false
	}
	lowest, highest, zero := p.IDs.GID[0], p.IDs.GID[0], p.IDs.GID[0]
	for _, m := range p.IDs.GID {
		if m.HostID < lowest.HostID {
			lowest = m
		}
		if m.HostID > highest.HostID {
			highest = m
		}
		if m.ContainerID == 0 {
			zero = m
		}
	}
	first, last = lowest.ContainerID, highest.ContainerID+highest.Size-1
	if first > last {
		first, last = zero.ContainerID, zero.ContainerID+zero.Size-1
	}
	return first, last, true
}
