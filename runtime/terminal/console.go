// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"sysbox/runtime/process"
	"sysbox/runtime/sys"
)

// TakeMaster takes the master of init's terminal out of its process.
func TakeMaster(init *process.Process) (*os.File, error) {
	master, err := sys.PidfdGetfd(init.PidFD(), process.FDConsole)
	if err != nil {
		return nil, fmt.Errorf("take the terminal's master: %w", err)
	}
	// Only a file made non-blocking is served by the poller.
	return sys.Pollable(master, "console")
}

// FindPTS returns the root of the container's own devpts, on which further terminals are
// opened, while nothing of the container has run that could put another one there. proc is the
// host's /proc, pid init's. It is nil for a container without one, as its spec asked.
func FindPTS(proc *os.File, pid int) *os.File {
	pts, err := sys.Openat2(proc, filepath.Join(strconv.Itoa(pid), "root", "dev/pts"), unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW})
	if err != nil {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(pts.Fd()), &st); err != nil || st.Type != unix.DEVPTS_SUPER_MAGIC {
		pts.Close()
		return nil
	}
	return pts
}

// Size is that of a terminal in characters; zeros are the kernel's own.
type Size struct{ Width, Height uint16 }

// Open opens a terminal on a container's devpts pts, as its root, whose host ids are given, for
// the user with the host's id owner.
func Open(pts *os.File, rootUID, rootGID, owner uint32, size Size) (master, slave *os.File, err error) {
	if pts == nil {
		return nil, nil, errors.New("cannot allocate a terminal: the spec has no devpts mount on /dev/pts")
	}
	err = sys.AsFSID(int(rootUID), int(rootGID), func() (err error) {
		master, slave, err = sys.OpenTerminal(pts)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if size != (Size{}) {
		err = unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
	}
	if err == nil {
		err = slave.Chown(int(owner), -1)
	}
	if err != nil {
		master.Close()
		slave.Close()
		return nil, nil, fmt.Errorf("set up the terminal: %w", err)
	}
	return master, slave, nil
}
