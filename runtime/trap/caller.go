package trap

import (
	"bytes"
	"errors"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// caller is the thread that made a call.
type caller struct {
	tid int
	// listener and id are those of the call.
	listener *listener
	id       uint64
	proc     int         // O_PATH of the host's procfs
	handle   *procHandle // the worker's
	opened   bool        // kept was opened for this call
}

// folder is a thread's in the host's procfs. A worker keeps it from one call to the next, as
// many are often one thread's.
type procHandle struct {
	tid int
	fd  int // O_PATH, meaningful if tid is not 0
}

func (f *procHandle) close() {
	if f.tid != 0 {
		unix.Close(f.fd)
		f.tid = 0
	}
}

// errGone: the caller has been killed; there is nobody to answer.
var errGone = errors.New("the caller has ended")

// pin opens the caller's folder in the host's procfs. Opened first and checked once, it is
// this thread's for ever, and after its end every access fails. So one that was kept is this
// caller's if it can be used: while the caller lives, the number has no other thread.
func (c *caller) openHandle() (int, error) {
	if c.handle.tid == c.tid {
		return c.handle.fd, nil
	}
	c.handle.close()
	dir, err := unix.Openat(c.proc, strconv.Itoa(c.tid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, errGone
	}
	// The number could have gone to another thread before it was opened, but
	// not while the caller waits.
	if !c.waits() {
		unix.Close(dir)
		return -1, errGone
	}
	*c.handle, c.opened = procHandle{c.tid, dir}, true
	return dir, nil
}

// pinned does something with the caller's folder; once more if that fails and the folder
// may be one of a thread that has ended.
func (c *caller) withHandle(do func(dir int) error) error {
	for {
		dir, err := c.openHandle()
		if err != nil {
			return err
		}
		if err = do(dir); err == nil || c.opened {
			return err
		}
		c.handle.close()
	}
}

// waits tells whether the caller still waits for its answer: asked after it was read from
// by its number, and before something is done for it.
func (c *caller) waits() bool { return c.listener.valid(c.id) }

// file opens one of the caller's files in procfs.
func (c *caller) file(name string, flags int) (fd int, err error) {
	err = c.withHandle(func(dir int) error {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

const pageSize = 4096

// read copies len(b) bytes of the caller's memory; EFAULT where the caller has none that it
// may read itself. (/proc/PID/mem would read what is protected, too.)
func (c *caller) read(addr uint64, b []byte) error {
	for len(b) > 0 {
		if int64(addr) < 0 {
			return unix.EFAULT
		}
		n := c.readVM(addr, b)
		// By then the number could be another's.
		if !c.waits() {
			return errGone
		}
		if n <= 0 {
			return unix.EFAULT
		}
		b, addr = b[n:], addr+uint64(n)
	}
	return nil
}

// peek copies what it can of the memory of who has the caller's number.
func (c *caller) readVM(addr uint64, b []byte) int {
	if int64(addr) < 0 {
		return 0
	}
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}
	n, err := unix.ProcessVMReadv(c.tid, local, remote, 0)
	if err != nil {
		return 0
	}
	return n
}

// write copies b to the caller's memory. It goes through a file that stays the memory of
// this call, whoever has the number later.
func (c *caller) write(addr uint64, b []byte) error {
	if int64(addr) < 0 {
		return unix.EFAULT
	}
	fd, err := c.file("mem", unix.O_WRONLY)
	if err != nil {
		return errGone
	}
	defer unix.Close(fd)
	if !c.waits() { // it may have been opened after an execve of another thread's
		return errGone
	}
	if n, err := unix.Pwrite(fd, b, int64(addr)); err != nil || n != len(b) {
		return unix.EFAULT
	}
	return nil
}

// text copies a NUL-terminated string of at most limit bytes, the NUL included:
// EFAULT where memory ends, tooLong where limit does.
func (c *caller) text(addr uint64, limit int, tooLong unix.Errno) (string, error) {
	var out []byte
	for len(out) < limit {
		// Not beyond the page: the next one need not be there.
		chunk := min(256, limit-len(out), pageSize-int(addr%pageSize))
		start := len(out)
		out = append(out, make([]byte, chunk)...)
		if err := c.read(addr, out[start:]); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(out[start:], 0); i >= 0 {
			return string(out[:start+i]), nil
		}
		addr += uint64(chunk)
	}
	return "", tooLong
}

// equals tells whether a text in the caller's memory is this one. Text that ends less
// than its length before memory does is not looked at closely.
func (c *caller) equals(addr uint64, text string) bool {
	var buf [16]byte
	b := buf[:len(text)+1]
	// Whose memory that is, is asked only where it matters.
	return c.readVM(addr, b) == len(b) && string(b[:len(text)]) == text && b[len(text)] == 0 && c.waits()
}

// path copies a path, as the kernel's getname().
func (c *caller) path(addr uint64) (string, error) {
	p, err := c.text(addr, unix.PathMax, unix.ENAMETOOLONG)
	if err == nil && p == "" {
		err = unix.ENOENT
	}
	return p, err
}

// namespace is a namespace's identity.
type namespace struct{ dev, ino uint64 }

func namespaceOf(fd int, name string) (namespace, error) {
	var st unix.Statx_t
	flags := unix.AT_STATX_DONT_SYNC // it may be any folder of the container's
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	err := unix.Statx(fd, name, flags, unix.STATX_INO, &st)
	return namespace{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, err
}

// namespace is that of the caller's of one kind, such as "user".
func (c *caller) namespace(kind string) (ns namespace, err error) {
	err = c.withHandle(func(dir int) error {
		ns, err = namespaceOf(dir, "ns/"+kind)
		return err
	})
	return ns, err
}

// first tells whether the caller is in the container's first user namespace, the only
// one in which anything is granted.
func (s *Server) inContainerUserns(c *call) bool {
	ns, err := c.namespace("user")
	return err == nil && ns == s.userns
}

// mounts opens the caller's mount namespace if its mounts are the business of
// who has CAP_SYS_ADMIN in the container's first user namespace: if that is the
// namespace's owner. Otherwise a caller could reach into a tree that is not its own.
func (s *Server) ownMounts(c *call) (int, bool) {
	fd, err := c.file("ns/mnt", unix.O_RDONLY)
	if err != nil {
		return -1, false
	}
	owner, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.NS_GET_USERNS, 0)
	if e == 0 {
		ns, err := namespaceOf(int(owner), "")
		unix.Close(int(owner))
		if err == nil && ns == s.userns {
			return fd, true
		}
	}
	unix.Close(fd)
	return -1, false
}

// bytesOf is a struct's memory, for structures that the kernel fills or reads.
func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// places opens the caller's root and working directory.
func (c *caller) rootAndCwd() (root, cwd int, ok bool) {
	root, err := c.file("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, -1, false
	}
	if cwd, err = c.file("cwd", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		unix.Close(root)
		return -1, -1, false
	}
	return root, cwd, true
}
