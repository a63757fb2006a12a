// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Prelude begins a program whose process must not outlive its parent and must not be inspected.
// It sets the name, refuses ptrace and core dumps to others with its ids, asks for SIGKILL at its
// parent's end, and checks that the parent has not ended before that.
//
// The kernel sends the parent-death signal when the *thread* that called [Start] ends. It forgets
// it at a fork, at a change of the effective or file-system id (so after a setresuid in a new
// user namespace), and at an execve that raises privileges. A child that waits must therefore
// also wait for end of file on a pipe whose only write end its parent holds: a [Call.Want] of 1
// byte read.
func Prelude(parent int) Program {
	return Program{
		{Name: "name the process", Nr: unix.SYS_PRCTL, Args: []Arg{Sym{"PR_SET_NAME", unix.PR_SET_NAME}, Str("sysbox-init")}},
		{Name: "refuse tracing", Nr: unix.SYS_PRCTL, Args: []Arg{Sym{"PR_SET_DUMPABLE", unix.PR_SET_DUMPABLE}, Int(0)}},
		ParentDeath(unix.SIGKILL),
		{Name: "check that the parent still lives", Nr: unix.SYS_GETPPID, Want: Equals(int64(parent))},
	}
}

// ParentDeath asks for a signal at the parent's end; 0 asks for none. See [Prelude].
func ParentDeath(sig unix.Signal) Call {
	return Call{
		Name: "set the parent-death signal", Nr: unix.SYS_PRCTL,
		Args: []Arg{Sym{"PR_SET_PDEATHSIG", unix.PR_SET_PDEATHSIG}, Int(sig)},
	}
}

// Fork clones a sibling: a child of this process's parent (CLONE_PARENT), with a copy of memory
// and descriptors, which continues at the label child. flags are further CLONE_* flags. cgroup is
// the number of the directory of a version 2 cgroup in which the child starts, or -1. The call
// has the label label, for a [Report] of the pid.
//
// CLONE_PARENT demands the exit signal 0; the child gets that of this process, SIGCHLD. Reports
// of the two processes arrive in any order.
func Fork(label, child string, flags uint64, cgroup int) Call {
	flags |= unix.CLONE_PARENT
	args := make([]byte, 88) // struct clone_args
	if cgroup >= 0 {
		flags |= unix.CLONE_INTO_CGROUP
		binary.LittleEndian.PutUint64(args[80:], uint64(cgroup))
	}
	binary.LittleEndian.PutUint64(args, flags)
	return Call{
		Name: "clone", Nr: unix.SYS_CLONE3, Label: label, IfZero: child,
		Args: []Arg{&Blob{Name: cloneName(flags, cgroup), Data: args, Named: true}, Int(len(args))},
	}
}

// stage2 is the label of the process in the cgroups.
const stage2 = "stage 2"

// InCgroupsTag is the tag with which a program of [InCgroups] reports the pid of stage 2.
const InCgroupsTag = 0

// InCgroups begins a program that continues as a process in a container's cgroups. It includes
// what [Prelude] does. The process joins the version 2 cgroup whose directory has the number
// cgroup, unless that is -1, and the version 1 cgroups whose tasks files have the numbers from
// first on; tasks says how many. All numbers from the smaller of cgroup and first on are closed.
// The program's only [Report] has the pid of the process, which is a child of the process that
// called [Start].
//
// Stage 2 starts in its version 2 cgroup, and it no longer shares memory with the parent: when
// the kernel runs out of memory, it kills all processes that share it.
func InCgroups(parent, cgroup, first, tasks int) Program {
	p := append(Prelude(parent),
		Fork("pid", stage2, 0, cgroup),
		Report("report the pid", InCgroupsTag, "pid"),
		Exit(0),
	)
	again := Prelude(parent) // it includes what a fork forgets
	again[0].Label = stage2
	p = append(p, again...)
	for i := range tasks {
		p = append(p, Call{
			Name: "join a cgroup", Nr: unix.SYS_WRITE, Args: []Arg{Int(first + i), Str("0"), Int(1)}, Want: Equals(1),
		})
	}
	if cgroup >= 0 {
		first = min(first, cgroup)
	}
	return append(p, Call{Name: "close the cgroups", Nr: unix.SYS_CLOSE_RANGE, Args: []Arg{Int(first), Int(1<<32 - 1), Int(0)}})
}

// Exit ends the process with this status, 0 to 255.
func Exit(code int) Call { return Call{Nr: unix.SYS_EXIT_GROUP, Args: []Arg{Int(code)}} }

func cloneName(flags uint64, cgroup int) string {
	s := "{" + bits(flags, cloneFlags)
	if cgroup >= 0 {
		s += fmt.Sprintf(", cgroup=%d", cgroup)
	}
	return s + "}"
}

// NoSetuidFixup is the secure bit by which a change of ids leaves capabilities as they are
// (SECBIT_NO_SETUID_FIXUP, capabilities(7)).
const NoSetuidFixup = 1 << 2
