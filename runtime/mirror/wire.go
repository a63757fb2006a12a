// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The structures and numbers are from include/uapi/linux/fuse.h of the kernel, protocol 7.31
// (Linux 5.4); numbers are in the byte order of the machine.

const (
	opLookup = iota + 1
	opForget
	opGetattr
	opSetattr
	opReadlink
	opSymlink
	_
	opMknod
	opMkdir
	opUnlink
	opRmdir
	opRename
	opLink
	opOpen
	opRead
	opWrite
	opStatfs
	opRelease
	_
	opFsync
	opSetxattr
	opGetxattr
	opListxattr
	opRemovexattr
	opFlush
	opInit
	opOpendir
	opReaddir
	opReleasedir
	opFsyncdir
)

const (
	opCreate      = 35
	opInterrupt   = 36
	opBatchForget = 42
	opFallocate   = 43
	opRename2     = 45
	opLseek       = 46
)

const (
	headerSize = 40 // struct fuse_in_header
	outSize    = 16 // struct fuse_out_header
	// maxWrite bounds the data of a call, and bufferSize the call: the kernel requires room
	// for the data of a write and its structures.
	maxWrite   = 128 << 10
	bufferSize = maxWrite + 4096
)

var order = binary.NativeEndian

// request is one call of the kernel.
type request struct {
	m      *Mirror
	buffer *[]byte
	data   []byte // everything, then what follows the header
	opcode uint32
	unique uint64
	node   uint64

	answered atomic.Bool
	timer    *time.Timer
	state    atomic.Int32
}

// The states of a call.
const (
	waiting = iota // waiting for a thread
	working
	late // working, but its caller has got ETIMEDOUT
	done
)

// parse reads the header; false if the data is not a call.
func (r *request) parse() bool {
	if len(r.data) < headerSize || int(order.Uint32(r.data)) != len(r.data) {
		return false
	}
	r.opcode, r.unique, r.node = order.Uint32(r.data[4:]), order.Uint64(r.data[8:]), order.Uint64(r.data[16:])
	r.data = r.data[headerSize:]
	return true
}

// answer writes the answer, unless the call has one already.
func (r *request) answer(data []byte, err error) {
	if !r.answered.CompareAndSwap(false, true) {
		return
	}
	b := make([]byte, outSize, outSize+len(data))
	if err != nil {
		order.PutUint32(b[4:], uint32(-int32(number(err))))
	} else {
		b = append(b, data...)
	}
	order.PutUint32(b, uint32(len(b)))
	order.PutUint64(b[8:], r.unique)
	// An error means that nothing waits for the call any more.
	_, _ = r.m.dev.Write(b)
}

// work executes a call and answers it. It does not start a call whose caller has stopped
// waiting: the change would come at an unexpected time.
func (r *request) work() {
	defer r.free()
	if !r.state.CompareAndSwap(waiting, working) && !r.releases() {
		return
	}
	r.answer(r.m.do(r))
	if r.state.Swap(done) == late {
		r.m.late.Add(-1)
	}
}

// expire answers a call that takes too long.
func (r *request) expire() {
	if !r.state.CompareAndSwap(waiting, done) && r.state.CompareAndSwap(working, late) {
		r.m.late.Add(1) // before the answer, so that it applies to the next call of the caller
	}
	r.answer(nil, unix.ETIMEDOUT)
}

// refuse answers a call if there is no thread for it, since all of them are blocked.
func (r *request) refuse() {
	if r.releases() {
		r.m.files.leave(r.u64(0))
	}
	r.answer(nil, unix.EBUSY)
	r.free()
}

// releases reports whether a call releases a file. The kernel makes such a call once, whatever
// the answer is: without it the file would stay open.
func (r *request) releases() bool { return r.opcode == opRelease || r.opcode == opReleasedir }

// free returns the buffer to the pool. No slice of data may be used afterwards.
func (r *request) free() {
	if r.timer != nil {
		r.timer.Stop()
	}
	r.m.buffers.Put(r.buffer)
}

// number returns the errno of an error; EIO if it has none.
func number(err error) unix.Errno {
	var n unix.Errno
	if errors.As(err, &n) {
		return n
	}
	return unix.EIO
}

// u32 and u64 read a number in the structure of the call; 0 beyond its end.
func (r *request) u32(at int) uint32 {
	if len(r.data) < at+4 {
		return 0
	}
	return order.Uint32(r.data[at:])
}

func (r *request) u64(at int) uint64 {
	if len(r.data) < at+8 {
		return 0
	}
	return order.Uint64(r.data[at:])
}

// text returns the n-th string after a structure of this size.
func (r *request) text(size, n int) (string, error) {
	b := r.data[min(size, len(r.data)):]
	for ; ; n-- {
		text, rest, ok := bytes.Cut(b, []byte{0})
		if !ok {
			return "", unix.EINVAL
		}
		if n == 0 {
			return string(text), nil
		}
		b = rest
	}
}

// name returns a text that is a valid name in a directory.
func (r *request) name(size, n int) (string, error) {
	s, err := r.text(size, n)
	if err == nil && (s == "" || s == "." || s == ".." || bytes.IndexByte([]byte(s), '/') >= 0) {
		err = unix.EINVAL
	}
	return s, err
}

const (
	flagAsyncRead     = 1 << 0
	flagBigWrites     = 1 << 5
	flagParallelDirop = 1 << 18
	flagMaxPages      = 1 << 22
)

// initReply negotiates the protocol, struct fuse_init_out.
func initReply(r *request) ([]byte, error) {
	major, minor := r.u32(0), r.u32(4)
	if major != 7 || minor < 31 {
		return nil, unix.EPROTO
	}
	b := make([]byte, 64)
	order.PutUint32(b, 7)
	order.PutUint32(b[4:], 31)
	order.PutUint32(b[12:], r.u32(12)&(flagAsyncRead|flagBigWrites|flagParallelDirop|flagMaxPages))
	order.PutUint16(b[16:], threads) // max_background
	order.PutUint32(b[20:], maxWrite)
	order.PutUint32(b[24:], 1) // granularity of times, in nanoseconds
	order.PutUint16(b[28:], uint16(maxWrite/unix.Getpagesize()))
	return b, nil
}

const attrSize = 88 // struct fuse_attr

// putAttr writes a struct fuse_attr.
func (m *Mirror) putAttr(b []byte, st *unix.Stat_t) {
	order.PutUint64(b, st.Ino)
	order.PutUint64(b[8:], uint64(st.Size))
	order.PutUint64(b[16:], uint64(st.Blocks))
	for i, t := range []unix.Timespec{st.Atim, st.Mtim, st.Ctim} {
		sec, nsec := t.Unix()
		order.PutUint64(b[24+8*i:], uint64(sec))
		order.PutUint32(b[48+4*i:], uint32(nsec))
	}
	major, minor := unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	for i, v := range []uint32{
		st.Mode, uint32(st.Nlink), containerID(m.uid, st.Uid), containerID(m.gid, st.Gid),
		minor&0xff | major<<8 | minor&^0xff<<12, uint32(st.Blksize), 0,
	} {
		order.PutUint32(b[60+4*i:], v)
	}
}

// entry is a struct fuse_entry_out.
func (m *Mirror) entry(id uint64, st *unix.Stat_t) []byte {
	b := make([]byte, 40+attrSize)
	order.PutUint64(b, id)
	m.putAttr(b[40:], st)
	return b
}

// attr is a struct fuse_attr_out.
func (m *Mirror) attr(st *unix.Stat_t) []byte {
	b := make([]byte, 16+attrSize)
	m.putAttr(b[16:], st)
	return b
}

// opened is a struct fuse_open_out.
func opened(fh uint64, flags uint32) []byte {
	b := make([]byte, 16)
	order.PutUint64(b, fh)
	order.PutUint32(b[8:], flags)
	return b
}
