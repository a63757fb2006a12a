// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"

	"sysbox/runtime/program"
)

// Numbers of the files that a program expects to find open.
const (
	// FDReport is the write end of the pipe for the program's reports.
	FDReport = 3
	// FDSync is the read end of the sync pipe, on which init waits for the shim.
	FDSync = 4
	// FDProc is an O_PATH handle of the host's /proc: no mount in the container can redirect what
	// is written through it.
	FDProc = 5
	// FDTrap is the socket over which the program sends the listener of the notification filter
	// to the shim.
	FDTrap = 6
	// FDTarget is the pidfd of the container's init, for Exec.
	FDTarget = 7
	// FDUnified is the container's directory in the cgroup2 tree.
	FDUnified = 8
	// FDConsole is where init keeps the master of its terminal for the shim. It is far above the
	// lowest free numbers, which the set-up uses and gives back.
	FDConsole = 30
	// FDFirst is the first number that depends on the plan: the version 1 cgroups come first,
	// then the namespaces to join.
	FDFirst = 10
)

// fdNames says how listings show these numbers.
var fdNames = map[int]string{
	FDReport: "report pipe", FDSync: "sync pipe", FDProc: "host's /proc", FDTrap: "listener socket", FDTarget: "init's pidfd",
	FDUnified: "cgroup2 directory", FDConsole: "terminal's master",
}

// fd makes an argument of one of these numbers.
func fd(n int) program.Arg {
	return program.Sym{Name: fmt.Sprintf("%d<%s>", n, fdNames[n]), Value: int64(n)}
}

// Tags of the reports, in the order in which they come.
const (
	// TagPid carries the pid of stage 2 on the host.
	TagPid = 1
	// TagTime says that init has made its time namespace, so that the shim can write the offsets.
	TagTime = 2
	// TagReady says that init has made its mounts and waits for Start.
	TagReady = 3
)

// SyncSize is how many bytes init reads before it continues its set-up: the value of HOME, padded
// with NUL bytes. One write of this size to a pipe is atomic (PIPE_BUF).
const SyncSize = 4096
