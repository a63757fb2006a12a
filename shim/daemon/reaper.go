// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// orphanAge is how long a dead child must remain before it counts as an orphan.
	// Code that starts a child here waits for it at once (os/exec, pidfds), which
	// takes milliseconds even on a crowded machine.
	orphanAge = 10 * time.Second
	// lookAgain is the interval of checks while there are dead children.
	lookAgain = time.Second
)

// reaper collects dead children that no code waits for: grandchildren of hooks
// and of logging binaries, which become children of the shim when their parents die.
//
// wait4(-1) would steal exits from os/exec and from the runtime. The reaper peeks
// (WNOWAIT) instead, and takes a child only if the task service does not know it
// and it has been dead for orphanAge.
type reaper struct {
	known func(pid int) bool
	log   *slog.Logger
	wake  chan struct{} // capacity 1
	age   time.Duration
}

func newReaper(known func(pid int) bool, log *slog.Logger) *reaper {
	r := &reaper{known: known, log: log, wake: make(chan struct{}, 1), age: orphanAge}
	go r.run()
	return r
}

// poke wakes the reaper after a child has exited.
func (r *reaper) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reaper) run() {
	seen := 0 // the dead child found last
	var since time.Time
	for range r.wake {
		for {
			pid := peek()
			if pid == 0 {
				seen = 0
				break
			}
			if pid != seen {
				seen, since = pid, time.Now()
			}
			if time.Since(since) >= r.age && !r.known(pid) {
				r.log.Debug("reap an orphan", "pid", pid)
				reap(pid)
				continue
			}
			time.Sleep(min(lookAgain, r.age))
		}
	}
}

// peek returns the pid of a dead child without reaping it; 0 if there is none.
func peek() int {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || info.Signo == 0 {
			return 0
		}
		return siginfoPid(&info)
	}
}

func reap(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG, nil)
		if err != unix.EINTR {
			return
		}
	}
}
