// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/json"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// SystemProfile returns a copy of a profile that also allows what the software of a whole machine
// calls; to its user, a system container is a machine. In a user namespace the kernel itself
// decides what of it succeeds.
//
// A profile that allows everything it does not name is a list of denials that the author wants.
// It stays as it is, and so does nil, which means no profile. In other profiles, denials by name
// give way: Docker's own profile denies in this way what needs a capability.
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
	// Entries of the profile that would answer differently give way. The profile's author still
	// counts as having known their calls.
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
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: w.names, Action: specs.ActAllow, Args: w.args})
	}
	return out
}

// widens reports whether [SystemProfile] has added an entry. Such an entry says nothing about how
// new the calls are that the profile's author knew. Newer calls still fail with ENOSYS
// ([beyond]), on each architecture by its own numbers, which no entry of a spec could express.
func widens(s specs.LinuxSyscall) bool {
	return s.Action == specs.ActAllow && slices.ContainsFunc(widened, func(w widening) bool {
		return slices.Equal(w.names, s.Names) && slices.Equal(w.args, s.Args)
	})
}

// widening is a group of system calls that are added to a profile.
type widening struct {
	// why says who needs them.
	why string
	// reach says what such a call can start or change at most. All of it must be in the
	// container. docs/system-calls.md shows this text.
	reach string
	names []string
	// args is the condition under which they are added; nil for none.
	args []specs.LinuxSeccompArg
}

// widened lists the added system calls. A call is added only if everything it can start is in the
// container. It does not count that the kernel may load one of the host's own modules by its
// alias. It does so for socket(2), too, which every profile allows; neither the program nor the
// file belongs to the caller.
var widened = []widening{
	{
		why:   "mounts of systemd and inner containers",
		reach: "mount namespaces that belong to the container's user namespaces; mounts from the host are locked there",
		names: []string{
			"mount", "umount", "umount2", "pivot_root", "chroot",
			"fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "open_tree_attr", "mount_setattr", "statmount", "listmount",
		},
	},
	{
		why:   "namespaces of inner containers and systemd units",
		reach: "the caller's children, which count for the container's root",
		names: []string{"clone", "clone3", "unshare", "setns"},
	},
	{
		// KEYCTL_INSTANTIATE, _NEGATE, _REJECT and _ASSUME_AUTHORITY of keyctl need an
		// authorisation that only a helper of request_key gets. The other operations ask nobody.
		why:   "keyrings of systemd, inner runtimes and Kerberos",
		reach: "keys in the container's user namespaces; nothing is started",
		names: []string{"keyctl", "add_key"},
	},
	{
		// If there is no such key and the call has callout information, the kernel starts
		// /sbin/request-key as the host's root, with texts that the caller chose.
		why:   "the same software, to look for a key",
		reach: "as above: without information for a callout (the third argument) the kernel starts no helper",
		names: []string{"request_key"},
		args:  []specs.LinuxSeccompArg{{Index: 2, Value: 0, Op: specs.OpEqualTo}},
	},
	{
		why:   "systemd and hostname(1)",
		reach: "the container's own uts namespace",
		names: []string{"sethostname", "setdomainname"},
	},
	{
		why:   "inner runtimes and debuggers",
		reach: "processes that the caller may trace, which excludes those of the host (ptrace_may_access)",
		names: []string{
			"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp",
			"pidfd_open", "pidfd_getfd", "pidfd_send_signal",
		},
	},
	{
		why:   "inner runtimes, to confine their own containers",
		reach: "the caller and its children; bpf programs take a capability over the host, unless kernel.unprivileged_bpf_disabled allows them to every user",
		names: []string{"seccomp", "bpf", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"},
	},
	{
		why:   "file handles of overlayfs tools and NFS servers",
		reach: "files that the caller could open; others take a capability over the host or the file system",
		names: []string{"name_to_handle_at", "open_by_handle_at"},
	},
	{
		why:   "device nodes and FIFOs of packages",
		reach: "files; the kernel refuses devices, and the shim makes those of a closed list",
		names: []string{"mknod", "mknodat"},
	},
	{
		why:   "file watching and quotas of storage software",
		reach: "what the caller may read, and the quotas of its own ids; marks on whole file systems and changes of quotas take a capability over the file system's user namespace",
		names: []string{"fanotify_init", "fanotify_mark", "quotactl", "quotactl_fd"},
	},
	{
		why:   "shutdown(8)",
		reach: "ends the init of the caller's pid namespace; only the first pid namespace can restart the machine or call kexec",
		names: []string{"reboot"},
	},
	{
		// The filter of package trap answers the commands for which the kernel would show the
		// host's log.
		why:   "dmesg(1)",
		reach: "an empty log; the rest takes a capability over the host",
		names: []string{"syslog"},
	},
	{
		why:   "systemd and installers, which accept EPERM",
		reach: "nothing: each takes a capability over the host, except to read the state of a clock",
		names: []string{"swapon", "swapoff", "acct", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "vhangup"},
	},
	{
		why:   "modprobe, which understands the errno of the kernel's refusal",
		reach: "nothing; the shim has the host's own modprobe load modules that the administrator names",
		names: []string{"init_module", "finit_module", "delete_module"},
	},
	{
		why:   "32-bit and emulated programs",
		reach: "the caller and its children",
		names: []string{"personality", "modify_ldt"},
	},
	{
		why:   "memory policy of databases and real-time software",
		reach: "memory of processes that the caller may trace, on the NUMA nodes of their cgroup",
		names: []string{"mbind", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "move_pages", "migrate_pages"},
	},
}
