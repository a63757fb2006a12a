package plan

import (
	"slices"
	"strings"
)

// namespacedSysctls are those that belong to a namespace of the container's.
// A name that ends in "." stands for all below it.
var namespacedSysctls = []string{
	"net.",
	"fs.mqueue.",
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.msg_next_id",
	"kernel.sem", "kernel.sem_next_id",
	"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced", "kernel.shm_next_id",
	"kernel.domainname",
}

// ProcPath is the setting's file below /proc/sys. A "/" in the name is a dot
// of the file's name, as with sysctl(8): "net.ipv4.conf.eth0/1.forwarding".
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
				return refuse(field, given, "it is not a name of a setting", "give one like net.ipv4.ip_forward")
			}
		}
		if s.Name == "kernel.hostname" {
			return refuse(field, given, "the host name has a field of its own", `use "hostname"`)
		}
		if !slices.ContainsFunc(namespacedSysctls, func(n string) bool {
			return s.Name == n || strings.HasSuffix(n, ".") && strings.HasPrefix(s.Name, n)
		}) {
			return refuse(field, given, "it is a setting of the whole host", "set it on the host; a container can have net.*, fs.mqueue.*, and kernel's shm*, msg*, sem* and domainname")
		}
		if seen[s.Name] {
			return refuse(field, given, "it comes twice", "give each setting once")
		}
		seen[s.Name] = true
		p.Sysctl = append(p.Sysctl, s)
	}
	slices.SortFunc(p.Sysctl, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

const pingGroupRange = "net.ipv4.ping_group_range"

// PingGroups are the first and the last group of the container for net.ipv4.ping_group_range
// of a new network namespace. The kernel translates both to the host's ids and takes all that
// lie between: so they are those with the lowest and the highest host id, or, where the
// mappings turn their order round, which the kernel refuses, those of the mapping that has
// group 0. ok is false where the container has no new one, where the spec has the setting, and
// where the mappings are not known.
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
