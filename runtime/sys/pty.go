package sys

import (
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenTerminal opens a new terminal on the devpts instance whose ptmx node
// the O_PATH handle is, and its slave by TIOCGPTPEER (Linux 4.13): no path is
// looked up, so no mount can be in the way. The slave belongs to the thread's
// fsuid. The master is non-blocking, the slave is not.
func OpenTerminal(ptmx *os.File) (master, slave *os.File, err error) {
	err = control(ptmx, func(fd int) (err error) {
		p := "/proc/thread-self/fd/" + strconv.Itoa(fd)
		master, err = open(func() (int, error) { return unix.Open(p, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) },
			"terminal", "open", "%s of %s", p, name(ptmx))
		return err
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
