package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// identify returns a process's name that outlives the reuse of its pid.
func identify(pid int) (processID, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processID{}, err
	}
	// The name in parentheses may hold anything, so count from its end.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return processID{}, fmt.Errorf("/proc/%d/stat has not the form of proc_pid_stat(5)", pid)
	}
	if fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return processID{}, os.ErrProcessDone
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return processID{}, err
	}
	return processID{Pid: pid, Start: start}, nil
}

// alive tells whether that very process still lives.
func (p processID) alive() bool {
	if p.Pid == 0 {
		return false
	}
	now, err := identify(p.Pid)
	return err == nil && now.Start == p.Start
}

// signal sends a signal to that very process; none if it is gone.
func (p processID) signal(sig unix.Signal) error {
	if !p.alive() {
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
	if !p.alive() { // the pidfd may be a later process's
		return nil
	}
	if err := sys.PidfdSendSignal(pidfd, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}
