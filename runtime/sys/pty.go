// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenTerminal opens a new terminal on the devpts instance whose root is the O_PATH handle
// pts, and its slave by TIOCGPTPEER (Linux 4.13). It looks up only the name of the node,
// and crosses no mount: EXDEV if something is mounted over it. The slave belongs to the
// fsuid of the thread. The master is non-blocking, the slave is not.
func OpenTerminal(pts *os.File) (master, slave *os.File, err error) {
	master, err = Openat2(pts, "ptmx", unix.OpenHow{
		Flags:   unix.O_RDWR | unix.O_NOCTTY | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, nil, err
	}
	err = control(master, func(fd int) (err error) {
		var locked int32
		err = call(func() error { return ioctl(fd, unix.TIOCSPTLCK, uintptr(unsafe.Pointer(&locked)), nil) }, "ioctl", "TIOCSPTLCK, 0")
		if err != nil {
			return err
		}
		slave, err = open(func() (n int, err error) {
			err = ioctl(fd, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, &n)
			return n, err
		}, "terminal slave", "ioctl", "TIOCGPTPEER")
		return err
	})
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

func ioctl(fd int, req uint, arg uintptr, result *int) error {
	r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), arg)
	if e != 0 {
		return e
	}
	if result != nil {
		*result = int(r)
	}
	return nil
}
