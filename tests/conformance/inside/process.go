// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	add(map[string]question{
		"args":        {"`/proc/self/cmdline`", func([]string) (string, error) { return strings.Join(os.Args[:min(2, len(os.Args))], " "), nil }},
		"env":         {"the environment", func(a []string) (string, error) { return os.Getenv(a[0]), nil }},
		"cwd":         {"getcwd(2)", func([]string) (string, error) { return os.Getwd() }},
		"uid":         {"`/proc/self/status`", func([]string) (string, error) { return status("Uid") }},
		"gid":         {"`/proc/self/status`", func([]string) (string, error) { return status("Gid") }},
		"groups":      {"`/proc/self/status`", func([]string) (string, error) { return status("Groups") }},
		"umask":       {"umask(2)", umask},
		"caps":        {"`/proc/self/status`", func(a []string) (string, error) { return status("Cap" + a[0]) }},
		"nnp":         {"prctl(2)", noNewPrivs},
		"limit":       {"getrlimit(2)", limit},
		"sched":       {"sched_getattr(2)", sched},
		"ioprio":      {"ioprio_get(2)", ioprio},
		"personality": {"`/proc/self/personality`, uname(2)", personality},
		"cpus":        {"sched_getaffinity(2)", cpus},
		"keyring":     {"keyctl(2)", keyring},
		"session":     {"getsid(2)", session},
		"window":      {"TIOCGWINSZ", window},
		"terminal":    {"isatty(3), `/dev/console`", terminal},
		"files":       {"`/proc/self/fd`", files},
		"hostname":    {"uname(2)", func([]string) (string, error) { return uts(func(u *unix.Utsname) []byte { return u.Nodename[:] }) }},
		"domainname":  {"uname(2)", func([]string) (string, error) { return uts(func(u *unix.Utsname) []byte { return u.Domainname[:] }) }},
		"mempolicy":   {"get_mempolicy(2)", mempolicy},
		"offsets":     {"`/proc/self/timens_offsets`", offsets},
		"seccomp":     {"`/proc/self/status`", func([]string) (string, error) { return status("Seccomp") }},
	})
}

func umask([]string) (string, error) {
	m := unix.Umask(0)
	unix.Umask(m)
	return fmt.Sprintf("%04o", m), nil
}

func noNewPrivs([]string) (string, error) {
	n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return strconv.Itoa(n), err
}

var limits = map[string]string{
	"RLIMIT_CPU": "cpu time", "RLIMIT_FSIZE": "file size", "RLIMIT_DATA": "data size", "RLIMIT_STACK": "stack size",
	"RLIMIT_CORE": "core file size", "RLIMIT_RSS": "resident set", "RLIMIT_NPROC": "processes", "RLIMIT_NOFILE": "open files",
	"RLIMIT_MEMLOCK": "locked memory", "RLIMIT_AS": "address space", "RLIMIT_LOCKS": "file locks", "RLIMIT_SIGPENDING": "pending signals",
	"RLIMIT_MSGQUEUE": "msgqueue size", "RLIMIT_NICE": "nice priority", "RLIMIT_RTPRIO": "realtime priority", "RLIMIT_RTTIME": "realtime timeout",
}

// limit reads a limit in another process: Go raises its own RLIMIT_NOFILE, and puts it
// back for what it executes.
func limit(a []string) (string, error) {
	out, err := exec.Command("/bin/busybox", "cat", "/proc/self/limits").Output()
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if rest, ok := strings.CutPrefix(strings.ToLower(line), "max "+limits[a[0]]); ok {
			f := strings.Fields(rest)
			return f[0] + " " + f[1], nil
		}
	}
	return "", fmt.Errorf("no %s in %s", a[0], out)
}

func sched([]string) (string, error) {
	s, err := unix.SchedGetAttr(os.Getpid(), 0)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("policy %d flags %d nice %d priority %d", s.Policy, s.Flags, s.Nice, s.Priority), nil
}

func ioprio([]string) (string, error) {
	n, _, e := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(os.Getpid()), 0)
	if e != 0 {
		return "", e
	}
	return fmt.Sprintf("class %d level %d", n>>13, n&0x1fff), nil
}

func personality([]string) (string, error) {
	p, err := text("/proc/self/personality")
	if err != nil {
		return "", err
	}
	m, err := uts(func(u *unix.Utsname) []byte { return u.Machine[:] })
	return strings.TrimLeft(p, "0") + " " + m, err
}

func uts(field func(*unix.Utsname) []byte) (string, error) {
	var u unix.Utsname
	err := unix.Uname(&u)
	s, _, _ := bytes.Cut(field(&u), []byte{0})
	return string(s), err
}

func cpus([]string) (string, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &set); err != nil {
		return "", err
	}
	var list []string
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			list = append(list, strconv.Itoa(i))
		}
	}
	return strings.Join(list, ","), nil
}

func keyring([]string) (string, error) {
	id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		return "", err
	}
	s, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, id)
	if err != nil {
		return "", err
	}
	return s[strings.LastIndex(s, ";")+1:], nil
}

func session([]string) (string, error) {
	sid, err := unix.Getsid(0)
	if err != nil || sid != os.Getpid() {
		return fmt.Sprintf("of process %d", sid), err
	}
	return "its own", nil
}

func window([]string) (string, error) {
	w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d lines %d columns", w.Row, w.Col), nil
}

// terminal tells whether the first three files and /dev/console are one terminal.
func terminal([]string) (string, error) {
	var first unix.Stat_t
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err != nil {
		return "none", nil
	}
	if err := unix.Fstat(0, &first); err != nil {
		return "", err
	}
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Ino != first.Ino || st.Rdev != first.Rdev {
			return "another at file " + strconv.Itoa(fd), err
		}
	}
	var st unix.Stat_t
	if err := unix.Stat("/dev/console", &st); err != nil || st.Rdev != first.Rdev {
		return "another at /dev/console", err
	}
	var group int32 // the controlling terminal answers
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, 0, unix.TIOCGPGRP, uintptr(unsafe.Pointer(&group))); e != 0 {
		return "not the controlling one", nil
	}
	return "controlling, at files 0 to 2 and /dev/console", nil
}

// files are the open files of a process that this one executes with what it got:
// Go's own are closed on exec.
func files([]string) (string, error) {
	cmd := exec.Command("/bin/busybox", "ls", "/proc/self/fd")
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	out, err := cmd.Output()
	return strings.Join(strings.Fields(string(out)), " "), err
}

func offsets([]string) (string, error) {
	s, err := text("/proc/self/timens_offsets")
	return strings.Join(strings.Fields(s), " "), err
}

// mempolicy is the policy of this thread, which has the process's.
func mempolicy([]string) (string, error) {
	var mode int32
	var nodes [16]uint64
	_, _, e := unix.Syscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&mode)), uintptr(unsafe.Pointer(&nodes)), 1024+1, 0, 0, 0)
	if e != 0 {
		return "", e
	}
	return fmt.Sprintf("mode %d nodes %x", mode, nodes[0]), nil
}
