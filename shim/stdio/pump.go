// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// chunk is the size of one read or splice: the default size of a pipe, pipe(7).
const chunk = 64 << 10

// buffers holds the buffers of copies, which need one only while data arrives.
var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// pump copies src to dst until the end of src or an error of either. Both are in
// Go's poller, except dst if it is a regular file.
func pump(dst, src *os.File) {
	if isFIFO(dst) && isFIFO(src) {
		splice(dst, src)
		return
	}
	for {
		_, err := copyOnce(dst, src)
		if err != nil {
			return
		}
	}
}

// copyOnce copies what one read returns. The end of src is an error, too.
func copyOnce(dst, src *os.File) (n int, err error) {
	rc, err := src.SyscallConn()
	if err != nil {
		return 0, err
	}
	var buf *[]byte
	var readErr error
	err = rc.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[]byte)
		n, readErr = ignoringEINTR(func() (int, error) { return unix.Read(int(fd), *buf) })
		if readErr == unix.EAGAIN {
			buffers.Put(buf) // do not keep the buffer while waiting
			return false
		}
		return true
	})
	if err != nil {
		return 0, err
	}
	defer buffers.Put(buf)
	if readErr != nil {
		return 0, readErr
	}
	if n <= 0 {
		return 0, os.ErrClosed
	}
	if dst == nil {
		return n, nil
	}
	return dst.Write((*buf)[:n])
}

// splice moves pages from pipe to pipe (splice(2)), without a copy or a buffer.
// EAGAIN does not say which side is not ready, so the amount in src decides.
func splice(dst, src *os.File) {
	in, err := src.SyscallConn()
	if err != nil {
		return
	}
	out, err := dst.SyscallConn()
	if err != nil {
		return
	}
	var n int64
	var moveErr error
	for {
		var from int
		err := in.Read(func(fd uintptr) bool {
			from = int(fd)
			n, moveErr = move(out, from)
			return moveErr != unix.EAGAIN || pending(from)
		})
		if err == nil && moveErr == unix.EAGAIN {
			err = waitWritable(in, out, &n, &moveErr)
		}
		if err != nil || (moveErr != nil && moveErr != unix.EAGAIN) || (moveErr == nil && n == 0) {
			return
		}
	}
}

// waitWritable tries again whenever dst has room, until data was moved or src is
// empty.
func waitWritable(in, out syscall.RawConn, n *int64, moveErr *error) error {
	return out.Write(func(to uintptr) bool {
		done := true
		err := in.Control(func(from uintptr) {
			*n, *moveErr = spliceOnce(int(to), int(from))
			done = *moveErr != unix.EAGAIN || !pending(int(from))
		})
		if err != nil {
			*n, *moveErr = 0, err
			return true
		}
		return done
	})
}

func move(out syscall.RawConn, from int) (n int64, err error) {
	if cerr := out.Control(func(to uintptr) { n, err = spliceOnce(int(to), from) }); cerr != nil {
		return 0, cerr
	}
	return n, err
}

func spliceOnce(to, from int) (int64, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, chunk, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// pending reports whether src has data or has ended: then splice is waiting for
// room in dst.
func pending(fd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
