// SPDX-License-Identifier: Apache-2.0

package program

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// flag is the name of a bit, or of a value of an enumeration.
type flag struct {
	name  string
	value uint64
}

// openFlags are the flags of open(2). Those whose bits contain other flags come first.
var openFlags = []flag{
	{"O_PATH", unix.O_PATH},
	{"O_DIRECTORY", unix.O_DIRECTORY},
	{"O_NOFOLLOW", unix.O_NOFOLLOW},
	{"O_CLOEXEC", unix.O_CLOEXEC},
	{"O_NONBLOCK", unix.O_NONBLOCK},
	{"O_NOCTTY", unix.O_NOCTTY},
	{"O_CREAT", unix.O_CREAT},
	{"O_EXCL", unix.O_EXCL},
	{"O_TRUNC", unix.O_TRUNC},
	{"O_APPEND", unix.O_APPEND},
	{"O_RDWR", unix.O_RDWR},
	{"O_WRONLY", unix.O_WRONLY},
}

var resolveFlags = []flag{
	{"RESOLVE_NO_XDEV", unix.RESOLVE_NO_XDEV},
	{"RESOLVE_NO_MAGICLINKS", unix.RESOLVE_NO_MAGICLINKS},
	{"RESOLVE_NO_SYMLINKS", unix.RESOLVE_NO_SYMLINKS},
	{"RESOLVE_BENEATH", unix.RESOLVE_BENEATH},
	{"RESOLVE_IN_ROOT", unix.RESOLVE_IN_ROOT},
}

var atFlags = []flag{
	{"AT_EMPTY_PATH", unix.AT_EMPTY_PATH},
	{"AT_SYMLINK_NOFOLLOW", unix.AT_SYMLINK_NOFOLLOW},
	{"AT_RECURSIVE", unix.AT_RECURSIVE},
	{"AT_NO_AUTOMOUNT", unix.AT_NO_AUTOMOUNT},
}

// openTreeFlags includes the AT_* flags that open_tree(2) takes.
var openTreeFlags = append([]flag{{"OPEN_TREE_CLONE", unix.OPEN_TREE_CLONE}, {"OPEN_TREE_CLOEXEC", unix.OPEN_TREE_CLOEXEC}}, atFlags...)

var cloneFlags = []flag{
	{"CLONE_NEWTIME", unix.CLONE_NEWTIME},
	{"CLONE_NEWNS", unix.CLONE_NEWNS},
	{"CLONE_NEWCGROUP", unix.CLONE_NEWCGROUP},
	{"CLONE_NEWUTS", unix.CLONE_NEWUTS},
	{"CLONE_NEWIPC", unix.CLONE_NEWIPC},
	{"CLONE_NEWUSER", unix.CLONE_NEWUSER},
	{"CLONE_NEWPID", unix.CLONE_NEWPID},
	{"CLONE_NEWNET", unix.CLONE_NEWNET},
	{"CLONE_FS", unix.CLONE_FS},
	{"CLONE_FILES", unix.CLONE_FILES},
	{"CLONE_PARENT", unix.CLONE_PARENT},
	{"CLONE_INTO_CGROUP", unix.CLONE_INTO_CGROUP},
}

var mountFlags = []flag{
	{"MS_RDONLY", unix.MS_RDONLY},
	{"MS_NOSUID", unix.MS_NOSUID},
	{"MS_NODEV", unix.MS_NODEV},
	{"MS_NOEXEC", unix.MS_NOEXEC},
	{"MS_REMOUNT", unix.MS_REMOUNT},
	{"MS_BIND", unix.MS_BIND},
	{"MS_MOVE", unix.MS_MOVE},
	{"MS_REC", unix.MS_REC},
	{"MS_SHARED", unix.MS_SHARED},
	{"MS_SLAVE", unix.MS_SLAVE},
	{"MS_PRIVATE", unix.MS_PRIVATE},
	{"MS_UNBINDABLE", unix.MS_UNBINDABLE},
}

var mountAttrs = []flag{
	{"MOUNT_ATTR_RDONLY", unix.MOUNT_ATTR_RDONLY},
	{"MOUNT_ATTR_NOSUID", unix.MOUNT_ATTR_NOSUID},
	{"MOUNT_ATTR_NODEV", unix.MOUNT_ATTR_NODEV},
	{"MOUNT_ATTR_NOEXEC", unix.MOUNT_ATTR_NOEXEC},
	{"MOUNT_ATTR_NOATIME", unix.MOUNT_ATTR_NOATIME},
	{"MOUNT_ATTR_STRICTATIME", unix.MOUNT_ATTR_STRICTATIME},
	{"MOUNT_ATTR_NODIRATIME", unix.MOUNT_ATTR_NODIRATIME},
	{"MOUNT_ATTR_IDMAP", unix.MOUNT_ATTR_IDMAP},
	{"MOUNT_ATTR_NOSYMFOLLOW", unix.MOUNT_ATTR_NOSYMFOLLOW},
}

var moveMountFlags = []flag{
	{"MOVE_MOUNT_F_EMPTY_PATH", unix.MOVE_MOUNT_F_EMPTY_PATH},
	{"MOVE_MOUNT_T_EMPTY_PATH", unix.MOVE_MOUNT_T_EMPTY_PATH},
	{"MOVE_MOUNT_BENEATH", 0x200},
}

var fsconfigCommands = []flag{
	{"FSCONFIG_SET_FLAG", unix.FSCONFIG_SET_FLAG},
	{"FSCONFIG_SET_STRING", unix.FSCONFIG_SET_STRING},
	{"FSCONFIG_SET_BINARY", unix.FSCONFIG_SET_BINARY},
	{"FSCONFIG_SET_PATH", unix.FSCONFIG_SET_PATH},
	{"FSCONFIG_SET_FD", unix.FSCONFIG_SET_FD},
	{"FSCONFIG_CMD_CREATE", unix.FSCONFIG_CMD_CREATE},
	{"FSCONFIG_CMD_RECONFIGURE", unix.FSCONFIG_CMD_RECONFIGURE},
}

var (
	fsopenFlags  = []flag{{"FSOPEN_CLOEXEC", unix.FSOPEN_CLOEXEC}}
	fsmountFlags = []flag{{"FSMOUNT_CLOEXEC", unix.FSMOUNT_CLOEXEC}}
	closeFlags   = []flag{{"CLOSE_RANGE_CLOEXEC", unix.CLOSE_RANGE_CLOEXEC}, {"CLOSE_RANGE_UNSHARE", unix.CLOSE_RANGE_UNSHARE}}
	accessModes  = []flag{{"F_OK", unix.F_OK}, {"X_OK", unix.X_OK}, {"W_OK", unix.W_OK}, {"R_OK", unix.R_OK}}
	ioprioWhich  = []flag{{"IOPRIO_WHO_PROCESS", 1}}
	ioprioClass  = []flag{{"IOPRIO_CLASS_NONE", 0}, {"IOPRIO_CLASS_RT", 1}, {"IOPRIO_CLASS_BE", 2}, {"IOPRIO_CLASS_IDLE", 3}}
	ioctls       = []flag{
		{"TIOCSCTTY", unix.TIOCSCTTY},
		{"TIOCSPTLCK", unix.TIOCSPTLCK},
		{"TIOCGPTPEER", unix.TIOCGPTPEER},
		{"TIOCSWINSZ", unix.TIOCSWINSZ},
		{"SIOCGIFFLAGS", unix.SIOCGIFFLAGS},
		{"SIOCSIFFLAGS", unix.SIOCSIFFLAGS},
	}
	socketFamilies = []flag{{"AF_UNIX", unix.AF_UNIX}, {"AF_INET", unix.AF_INET}, {"AF_INET6", unix.AF_INET6}, {"AF_NETLINK", unix.AF_NETLINK}}
	socketTypes    = []flag{
		{"SOCK_SEQPACKET", unix.SOCK_SEQPACKET},
		{"SOCK_RAW", unix.SOCK_RAW},
		{"SOCK_DGRAM", unix.SOCK_DGRAM},
		{"SOCK_STREAM", unix.SOCK_STREAM},
		{"SOCK_CLOEXEC", unix.SOCK_CLOEXEC},
		{"SOCK_NONBLOCK", unix.SOCK_NONBLOCK},
	}
	deviceFlags  = []flag{{"IFF_UP", unix.IFF_UP}, {"IFF_LOOPBACK", unix.IFF_LOOPBACK}}
	seccompModes = []flag{{"SECCOMP_SET_MODE_STRICT", unix.SECCOMP_SET_MODE_STRICT}, {"SECCOMP_SET_MODE_FILTER", unix.SECCOMP_SET_MODE_FILTER}}
	filterFlags  = []flag{
		{"SECCOMP_FILTER_FLAG_TSYNC", unix.SECCOMP_FILTER_FLAG_TSYNC},
		{"SECCOMP_FILTER_FLAG_LOG", unix.SECCOMP_FILTER_FLAG_LOG},
		{"SECCOMP_FILTER_FLAG_SPEC_ALLOW", unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		{"SECCOMP_FILTER_FLAG_NEW_LISTENER", unix.SECCOMP_FILTER_FLAG_NEW_LISTENER},
		{"SECCOMP_FILTER_FLAG_TSYNC_ESRCH", unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH},
		{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 1 << 5},
	}
	keyctlCommands = []flag{
		{"KEYCTL_JOIN_SESSION_KEYRING", unix.KEYCTL_JOIN_SESSION_KEYRING}, {"KEYCTL_SETPERM", unix.KEYCTL_SETPERM},
	}
	prctlOptions = []flag{
		{"PR_SET_PDEATHSIG", unix.PR_SET_PDEATHSIG},
		{"PR_SET_DUMPABLE", unix.PR_SET_DUMPABLE},
		{"PR_SET_KEEPCAPS", unix.PR_SET_KEEPCAPS},
		{"PR_SET_NAME", unix.PR_SET_NAME},
		{"PR_CAPBSET_DROP", unix.PR_CAPBSET_DROP},
		{"PR_SET_SECUREBITS", unix.PR_SET_SECUREBITS},
		{"PR_SET_NO_NEW_PRIVS", unix.PR_SET_NO_NEW_PRIVS},
		{"PR_CAP_AMBIENT", unix.PR_CAP_AMBIENT},
	}
	ambientActions = []flag{{"PR_CAP_AMBIENT_RAISE", unix.PR_CAP_AMBIENT_RAISE}, {"PR_CAP_AMBIENT_LOWER", unix.PR_CAP_AMBIENT_LOWER}}
	secureBits     = []flag{
		{"SECBIT_NOROOT", 1 << 0}, {"SECBIT_NO_SETUID_FIXUP", NoSetuidFixup}, {"SECBIT_KEEP_CAPS", 1 << 4}, {"SECBIT_NO_CAP_AMBIENT_RAISE", 1 << 6},
	}
	memoryModes = []flag{
		{"MPOL_DEFAULT", 0},
		{"MPOL_PREFERRED", 1},
		{"MPOL_BIND", 2},
		{"MPOL_INTERLEAVE", 3},
		{"MPOL_LOCAL", 4},
		{"MPOL_PREFERRED_MANY", 5},
		{"MPOL_WEIGHTED_INTERLEAVE", 6},
	}
	memoryFlags = []flag{{"MPOL_F_STATIC_NODES", 1 << 15}, {"MPOL_F_RELATIVE_NODES", 1 << 14}, {"MPOL_F_NUMA_BALANCING", 1 << 13}}
	schedulers  = []flag{
		{"SCHED_OTHER", 0}, {"SCHED_FIFO", 1}, {"SCHED_RR", 2}, {"SCHED_BATCH", 3}, {"SCHED_IDLE", 5}, {"SCHED_DEADLINE", 6}, {"SCHED_EXT", 7},
	}
	limitNames = []flag{
		{"RLIMIT_CPU", 0},
		{"RLIMIT_FSIZE", 1},
		{"RLIMIT_DATA", 2},
		{"RLIMIT_STACK", 3},
		{"RLIMIT_CORE", 4},
		{"RLIMIT_RSS", 5},
		{"RLIMIT_NPROC", 6},
		{"RLIMIT_NOFILE", 7},
		{"RLIMIT_MEMLOCK", 8},
		{"RLIMIT_AS", 9},
		{"RLIMIT_LOCKS", 10},
		{"RLIMIT_SIGPENDING", 11},
		{"RLIMIT_MSGQUEUE", 12},
		{"RLIMIT_NICE", 13},
		{"RLIMIT_RTPRIO", 14},
		{"RLIMIT_RTTIME", 15},
	}
)

// capabilityNames are the names in capabilities(7), by number.
var capabilityNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
	"CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON",
	"CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

func capability(n uint64) string {
	if n < uint64(len(capabilityNames)) {
		return capabilityNames[n]
	}
	return strconv.FormatUint(n, 10)
}

// capabilities names a set. A set of all capabilities up to a number is shown by that number.
func capabilities(set uint64) string {
	if set == 0 {
		return "none"
	}
	var names []string
	last := 0
	for n := range 64 {
		if set&(1<<n) != 0 {
			names, last = append(names, capability(uint64(n))), n
		}
	}
	if len(names) > 8 && len(names) == last+1 {
		return fmt.Sprintf("all %d up to %s", len(names), names[last])
	}
	return strings.Join(names, "|")
}

// bits names a set of flags. Bits without a name are shown as a number.
func bits(v uint64, names []flag) string {
	if v == 0 {
		return "0"
	}
	var out []string
	for _, f := range names {
		if f.value != 0 && v&f.value == f.value {
			out, v = append(out, f.name), v&^f.value
		}
	}
	if v != 0 {
		out = append(out, fmt.Sprintf("%#x", v))
	}
	return strings.Join(out, "|")
}

// one names a value of an enumeration.
func one(v uint64, names []flag) string {
	for _, f := range names {
		if f.value == v {
			return f.name
		}
	}
	return fmt.Sprintf("%#x", v)
}
