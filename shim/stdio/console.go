// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// console is the master side of a pseudo-terminal.
//
// Reading it fails with EIO while no process has the slave open, which happens
// during the life of a container: systemd and getty close and reopen
// /dev/console, and hang it up. So the shim keeps the slave open until the
// process has exited, and opens it again after a hang-up.
type console struct {
	file *os.File // in Go's poller

	mu    sync.Mutex
	slave *os.File // guarded by mu
	ended bool     // guarded by mu
}

// newConsole takes ownership of master.
func newConsole(master *os.File) (*console, error) {
	defer master.Close()
	rc, err := master.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if cerr := rc.Control(func(m uintptr) { fd, err = unix.FcntlInt(m, unix.F_DUPFD_CLOEXEC, 3) }); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	c := &console{file: os.NewFile(uintptr(fd), "console")}
	c.hold()
	return c, nil
}

// hold opens the slave; false after end. TIOCGPTPEER (ioctl_tty(2), 4.13) needs
// no path, which the container could have replaced.
func (c *console) hold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	if c.slave != nil {
		c.slave.Close()
		c.slave = nil
	}
	peer := -1
	err := c.control(func(fd int) error {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			return errno
		}
		peer = int(n)
		return nil
	})
	if err != nil {
		return false
	}
	c.slave = os.NewFile(uintptr(peer), "console's slave")
	return true
}

// end closes the slave: once all others have closed it, reading ends.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.slave != nil {
		c.slave.Close()
		c.slave = nil
	}
}

func (c *console) resize(size *unix.Winsize) error {
	return c.control(func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
}

// output copies the terminal's output to out; it discards it if out is nil.
func (c *console) output(out *os.File) {
	for {
		_, err := copyOnce(out, c.file)
		if errors.Is(err, unix.EIO) && c.hold() {
			continue
		}
		if err != nil {
			return
		}
	}
}

func (c *console) control(f func(fd int) error) error {
	rc, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}
