// SPDX-License-Identifier: Apache-2.0

package process

import (
	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
)

// makeConsole opens a terminal on the container's own devpts. It keeps the master for the shim,
// and makes the slave files 0 to 2 and /dev/console.
func (c *calls) makeConsole(p plan.Process) {
	master := c.open("open a terminal", cwd, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY)
	c.do("unlock the terminal", unix.SYS_IOCTL, master, num(unix.TIOCSPTLCK), words(0))
	slave := c.do("open the terminal's slave", unix.SYS_IOCTL, master, num(unix.TIOCGPTPEER),
		num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC))
	if p.Width != 0 || p.Height != 0 {
		size := uint64(p.Height) | uint64(p.Width)<<16
		c.do("size the terminal", unix.SYS_IOCTL, slave, num(unix.TIOCSWINSZ), words(size))
	}
	c.do("give the terminal to its user", unix.SYS_FCHOWN, slave, num(p.UID), num(^uint32(0)))
	tree := c.do("clone the mount of the terminal", unix.SYS_OPEN_TREE, slave, str(""),
		num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH))
	c.do("attach /dev/console", unix.SYS_MOVE_MOUNT, tree, str(""), cwd, str("/dev/console"), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
	for fd := range 3 {
		c.do("make the terminal file "+itoa(fd), unix.SYS_DUP3, slave, num(fd), num(0))
	}
	c.do("keep the master for the shim", unix.SYS_DUP3, master, fd(FDConsole), num(unix.O_CLOEXEC))
	for _, f := range []ref{tree, slave, master} {
		c.do("close a handle", unix.SYS_CLOSE, f)
	}
}
