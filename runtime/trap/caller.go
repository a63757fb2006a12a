// SPDX-License-Identifier: Apache-2.0

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
	// listener and id belong to the call.
	listener *listener
	id       uint64
	proc     int         // O_PATH of the host's procfs
	handle   *procHandle // the worker's
	opened   bool        // handle was opened for this call
}

// procHandle is an open directory of a thread in the host's procfs. A worker caches it between
// calls, because many calls in a row come from one thread.
type procHandle struct {
	tid int
	fd  int // O_PATH, valid if tid is not 0
}

func (f *procHandle) close() {
	if f.tid != 0 {
		unix.Close(f.fd)
		f.tid = 0
	}
}

// errGone: the caller has been killed, so nobody waits for the answer.
var errGone = errors.New("the caller has ended")

// openHandle opens the caller's directory in the host's procfs. It is opened first and checked
// once: from then on it belongs to this thread, and every access fails after the thread's end. A
// cached handle belongs to this caller if it can be used: while the caller lives, no other thread
// has its number.
func (c *caller) openHandle() (int, error) {
	if c.handle.tid == c.tid {
		return c.handle.fd, nil
	}
	c.handle.close()
	dir, err := unix.Openat(c.proc, strconv.Itoa(c.tid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, errGone
	}
	// The number could have gone to another thread before the directory was opened, but not while
	// the caller waits.
	if !c.waits() {
		unix.Close(dir)
		return -1, errGone
	}
	*c.handle, c.opened = procHandle{c.tid, dir}, true
	return dir, nil
}

// withHandle calls do with the caller's directory. If that fails with a cached handle, which may
// be that of an ended thread, it tries again with a new one.
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

// waits reports whether the caller still waits for its answer. Ask after reading by the caller's
// number, and before doing something for the caller.
func (c *caller) waits() bool { return c.listener.valid(c.id) }

// file opens a file in the caller's procfs directory.
func (c *caller) file(name string, flags int) (fd int, err error) {
	err = c.withHandle(func(dir int) error {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

const pageSize = 4096

// read copies len(b) bytes of the caller's memory. It fails with EFAULT where the caller could
// not read its memory itself. (/proc/PID/mem would read protected memory, too.)
func (c *caller) read(addr uint64, b []byte) error {
	for len(b) > 0 {
		if int64(addr) < 0 {
			return unix.EFAULT
		}
		n := c.readVM(addr, b)
		// Another thread could have the number by now.
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

// readVM copies as much as it can from the memory of the process that has the caller's number.
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

// write copies b to the caller's memory, through a file that refers to the memory of this caller
// even if its number is used again later.
func (c *caller) write(addr uint64, b []byte) error {
	if int64(addr) < 0 {
		return unix.EFAULT
	}
	fd, err := c.file("mem", unix.O_WRONLY)
	if err != nil {
		return errGone
	}
	defer unix.Close(fd)
	if !c.waits() { // another thread may have called execve before the file was opened
		return errGone
	}
	if n, err := unix.Pwrite(fd, b, int64(addr)); err != nil || n != len(b) {
		return unix.EFAULT
	}
	return nil
}

// text copies a NUL-terminated string of at most limit bytes, including the NUL. It fails with
// EFAULT where the memory ends, and with tooLong if there is no NUL within limit.
func (c *caller) text(addr uint64, limit int, tooLong unix.Errno) (string, error) {
	var out []byte
	for len(out) < limit {
		// Do not read beyond the page: the next one may not exist.
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

// equals reports whether the caller's memory has this text at addr. It is false if fewer bytes
// than the text and its NUL are readable.
func (c *caller) equals(addr uint64, text string) bool {
	var buf [16]byte
	b := buf[:len(text)+1]
	// Whether it is still the caller's memory matters only if the text is equal.
	return c.readVM(addr, b) == len(b) && string(b[:len(text)]) == text && b[len(text)] == 0 && c.waits()
}

// path copies a path, as getname() in the kernel does.
func (c *caller) path(addr uint64) (string, error) {
	p, err := c.text(addr, unix.PathMax, unix.ENAMETOOLONG)
	if err == nil && p == "" {
		err = unix.ENOENT
	}
	return p, err
}

// namespace identifies a namespace.
type namespace struct{ dev, ino uint64 }

func namespaceOf(fd int, name string) (namespace, error) {
	var st unix.Statx_t
	flags := unix.AT_STATX_DONT_SYNC // the file may be any directory of the container
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	err := unix.Statx(fd, name, flags, unix.STATX_INO, &st)
	return namespace{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, err
}

// namespace returns the caller's namespace of a kind, such as "user".
func (c *caller) namespace(kind string) (ns namespace, err error) {
	err = c.withHandle(func(dir int) error {
		ns, err = namespaceOf(dir, "ns/"+kind)
		return err
	})
	return ns, err
}

// inContainerUserns reports whether the caller is in the container's first user namespace, the
// only one in which anything is granted.
func (s *Server) inContainerUserns(c *call) bool {
	ns, err := c.namespace("user")
	return err == nil && ns == s.userns
}

// ownMounts opens the caller's mount namespace if the container's first user namespace owns it,
// so that CAP_SYS_ADMIN there covers its mounts. Otherwise a caller could reach into a mount tree
// that does not belong to it.
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

// bytesOf returns the memory of a struct that the kernel fills or reads.
func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// rootAndCwd opens the caller's root and working directory.
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
