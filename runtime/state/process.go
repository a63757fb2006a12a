// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Process names a process beyond the reuse of its pid.
type Process struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot: field 22 of /proc/PID/stat
}

// Identify returns a process's name that outlives the reuse of its pid; os.ErrProcessDone of
// one that has ended.
func Identify(pid int) (Process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, err
	}
	// The name in parentheses may hold anything, so count from its end.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return Process{}, fmt.Errorf("/proc/%d/stat has not the form of proc_pid_stat(5)", pid)
	}
	if fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return Process{}, os.ErrProcessDone
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return Process{}, err
	}
	return Process{Pid: pid, Start: start}, nil
}

// Alive tells whether that very process still lives.
func (p Process) Alive() bool {
	if p.Pid == 0 {
		return false
	}
	now, err := Identify(p.Pid)
	return err == nil && now.Start == p.Start
}

// Signal sends a signal to that very process; none if it is gone.
func (p Process) Signal(sig unix.Signal) error {
	if !p.Alive() {
		return nil
	}
	pidfd, err := sys.PidfdOpen(p.Pid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	if !p.Alive() { // the pidfd may be a later process's
		return nil
	}
	if err := sys.PidfdSendSignal(pidfd, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// Self is this process, which does not change.
var Self = sync.OnceValues(func() (Process, error) { return Identify(os.Getpid()) })

// PIDNamespace is the number of the namespace whose pids this process records.
var PIDNamespace = sync.OnceValue(func() uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0
	}
	return st.Ino
})
