package seccomp

import (
	"encoding/json"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// SystemProfile returns a copy of a caller's profile that also allows what a
// machine's own software calls, a machine being what a system container is to
// its user. In a user namespace the kernel itself says what of it may succeed.
//
// A profile that allows what it does not name is a list of denials that its author
// means: it stays as it is, and so does nil, no profile. In others what is denied by
// name gives way, as in Docker's own, which deny so for want of a capability.
func SystemProfile(p *specs.LinuxSeccomp) *specs.LinuxSeccomp {
	if p == nil || p.DefaultAction == specs.ActAllow || p.DefaultAction == specs.ActLog {
		return p
	}
	b, err := json.Marshal(p)
	if err != nil {
		return p
	}
	out := &specs.LinuxSeccomp{}
	if err := json.Unmarshal(b, out); err != nil {
		return p
	}
	names := map[string]bool{}
	for _, w := range widened {
		for _, n := range w.names {
			names[n] = true
		}
	}
	// Entries of the profile that would answer otherwise give way; that its author
	// knew their calls stays.
	var kept []specs.LinuxSyscall
	var known []string
	for _, s := range out.Syscalls {
		if s.Action != specs.ActAllow {
			var rest []string
			for _, n := range s.Names {
				if names[n] {
					known = append(known, n)
				} else {
					rest = append(rest, n)
				}
			}
			if s.Names = rest; len(rest) == 0 {
				continue
			}
		}
		kept = append(kept, s)
	}
	out.Syscalls = kept
	if len(known) > 0 {
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: known, Action: out.DefaultAction, ErrnoRet: out.DefaultErrnoRet})
	}
	for _, w := range widened {
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: w.names, Action: specs.ActAllow})
	}
	return out
}

// widens tells of an entry that [SystemProfile] has added. It says nothing of how new the
// calls are that the profile's author knew: those that are newer go on failing with ENOSYS
// ([beyond]), on each architecture by its own numbers, which no entry of a spec could say.
func widens(s specs.LinuxSyscall) bool {
	if s.Action != specs.ActAllow || len(s.Args) > 0 {
		return false
	}
	for _, w := range widened {
		if slices.Equal(w.names, s.Names) {
			return true
		}
	}
	return false
}

// widened are the system calls added, and who needs them.
var widened = []struct {
	why   string
	names []string
}{
	{"mounts of systemd and of inner containers; the host's own are locked", []string{
		"mount", "umount", "umount2", "pivot_root", "chroot",
		"fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "open_tree_attr", "mount_setattr", "statmount", "listmount",
	}},
	{"namespaces of inner containers and of systemd's units", []string{"clone", "clone3", "unshare", "setns"}},
	{"keyrings, which have a namespace of their own per user", []string{"keyctl", "add_key", "request_key"}},
	{"the host name, of the container's own uts namespace", []string{"sethostname", "setdomainname"}},
	{"inner runtimes and debuggers, within the container's processes", []string{
		"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp",
		"pidfd_open", "pidfd_getfd", "pidfd_send_signal",
	}},
	{"inner runtimes confine their own containers", []string{"seccomp", "bpf", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}},
	{"file handles of overlayfs tools and NFS servers; opening one takes a capability over the host", []string{"name_to_handle_at", "open_by_handle_at"}},
	{"device nodes and FIFOs of packages; the kernel refuses devices", []string{"mknod", "mknodat"}},
	{"file watching and quotas of storage software, on the container's own mounts", []string{"fanotify_init", "fanotify_mark", "quotactl", "quotactl_fd"}},
	{"what systemd and shutdown(8) try; the kernel restarts the container alone or refuses", []string{"reboot", "syslog", "swapon", "swapoff", "acct", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "vhangup"}},
	{"modules, which the kernel refuses with an errno that modprobe understands", []string{"init_module", "finit_module", "delete_module"}},
	{"32-bit and emulated programs", []string{"personality", "modify_ldt"}},
	{"memory policy and scheduling of databases and real-time software, within the cgroup", []string{"mbind", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "move_pages", "migrate_pages"}},
}
