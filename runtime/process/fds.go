package process

import (
	"fmt"

	"sysbox/runtime/program"
)

// Numbers of the files that a program expects to find open.
const (
	// FDReport takes the program's reports; the write end of a pipe.
	FDReport = 3
	// FDGo is the read end of the pipe on which init waits.
	FDSync = 4
	// FDProc is an O_PATH handle of the host's /proc: what is written through
	// it cannot be redirected by mounts of the container's.
	FDProc = 5
	// FDTrap is the socket over which the shim gets the listener of the
	// notification filter.
	FDTrap = 6
	// FDTarget is the pidfd of the container's init, for Exec.
	FDTarget = 7
	// FDUnified is the container's folder in the cgroup2 tree.
	FDUnified = 8
	// FDConsole is where init keeps the master of its terminal for the shim;
	// far from the lowest free numbers, which its set-up takes and gives back.
	FDConsole = 30
	// FDFirst is the first of the files whose number depends on the plan:
	// version 1 cgroups, then namespaces to be joined.
	FDFirst = 10
)

// fdNames are what listings show of these numbers.
var fdNames = map[int]string{
	FDReport: "report pipe", FDSync: "sync pipe", FDProc: "host's /proc", FDTrap: "listener socket", FDTarget: "init's pidfd",
	FDUnified: "cgroup2 directory", FDConsole: "terminal's master",
}

// fd is one of these numbers as an argument.
func fd(n int) program.Arg {
	return program.Sym{Name: fmt.Sprintf("%d<%s>", n, fdNames[n]), Value: int64(n)}
}

// Tags of the reports, in the order in which they come.
const (
	// TagPid carries the host pid of the second leg.
	TagPid = 1
	// TagTime says that init has made its time namespace, whose offsets can
	// be written now.
	TagTime = 2
	// TagReady says that init has made its mounts and waits for Start.
	TagReady = 3
)

// GoSize is how many bytes init reads before it goes on with its set-up: the
// value of HOME, ended by NUL bytes. One write of this size to a pipe is
// atomic (PIPE_BUF).
const SyncSize = 4096
