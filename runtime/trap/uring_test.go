// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"encoding/binary"
	"fmt"
	goruntime "runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sysbox/tests/testcontainer"
)

// uringLooked are the operations of io_uring that were looked at, linux/io_uring.h up to
// Linux 6.19: none makes nodes or mounts, loads modules or tells of memory and uptime. The
// last is URING_CMD128.
const uringLooked = 64

// TestUring: io_uring is in a system container what it is in an ordinary one, and none of its
// operations is a way around a trap: the kernel has none that was not looked at, and by the
// arguments of a mknod none makes a node.
func TestUring(t *testing.T) {
	t.Parallel()
	system, status := ioUringInside.Run(t, nil)
	ordinaries, status2 := ioUringInside.Run(t, testcontainer.Ordinary)
	if status != 0 || status2 != 0 {
		t.Fatalf("exit status %d and %d: %s%s", status, status2, system, ordinaries)
	}
	if strings.HasPrefix(system, "off") && system == ordinaries {
		t.Skip("this host lets no container have io_uring: " + system)
	}
	if system != ordinaries {
		t.Errorf("in a system container:\n%sin an ordinary one:\n%s", system, ordinaries)
	}
	t.Log(system)
}

var ioUringInside = testcontainer.Inside("io_uring", func() error {
	r, err := newUring()
	if err != nil {
		fmt.Println("off:", err)
		return nil
	}
	supported, err := r.probe()
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	fmt.Println(len(supported), "operations")
	for _, op := range supported {
		if op > uringLooked {
			return fmt.Errorf("the kernel has an operation %d, which nobody has looked at: see linux/io_uring.h and uringLooked", op)
		}
		for _, dev := range []uint64{nullDev, 0} { // many have no such argument
			if err := mknodBy(op, dev); err != nil {
				return err
			}
		}
	}
	return nil
})

// mknodBy submits an operation with the arguments of mknodat(AT_FDCWD, path, mode, dev), in
// a ring of its own as it may never end, and looks whether there is a node.
func mknodBy(op int, dev uint64) error {
	r, err := newUring()
	if err != nil {
		return err
	}
	defer r.close()
	name := fmt.Sprintf("/root/%d-%d", op, dev)
	path := append([]byte(name), 0)
	le := binary.LittleEndian
	sqe := r.entries[:64]
	sqe[0] = byte(op)
	here := int32(unix.AT_FDCWD)
	le.PutUint32(sqe[4:], uint32(here))
	le.PutUint64(sqe[8:], dev)
	le.PutUint64(sqe[16:], uint64(address(path)))
	le.PutUint32(sqe[24:], charDev)
	le.PutUint32(sqe[28:], unix.O_CREAT) // of openat
	r.submit()
	_, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 1, 0, 0, 0, 0)
	for range 20 { // what makes files does so at once, or in a worker soon
		if e != 0 || r.completed() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	goruntime.KeepAlive(path)
	var st unix.Stat_t
	if unix.Lstat(name, &st) == nil {
		fmt.Printf("operation %d makes a file of type %#o\n", op, st.Mode&unix.S_IFMT)
		if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
			return fmt.Errorf("operation %d makes device nodes", op)
		}
	}
	return nil
}

// uring is a ring of a few entries, io_uring(7).
type uring struct {
	fd            int
	ring, entries []byte
	tail, array   *uint32
	done          *uint32 // the tail of what is completed
}

func newUring() (*uring, error) {
	params := make([]byte, 120) // struct io_uring_params
	fd, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, address(params), 0)
	if e != 0 {
		return nil, e
	}
	r := &uring{fd: int(fd)}
	var err error
	if r.ring, err = unix.Mmap(r.fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	if r.entries, err = unix.Mmap(r.fd, 0x10000000, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil { // IORING_OFF_SQES
		return nil, err
	}
	at := func(field int) *uint32 {
		return (*uint32)(unsafe.Pointer(&r.ring[binary.LittleEndian.Uint32(params[field:])]))
	}
	r.tail, r.array, r.done = at(40+4), at(40+24), at(80+4) // with IORING_FEAT_SINGLE_MMAP
	return r, nil
}

func (r *uring) close() {
	_ = unix.Munmap(r.ring)
	_ = unix.Munmap(r.entries)
	unix.Close(r.fd)
}

// submit puts the first entry in the queue; io_uring_enter(2), a barrier, follows.
func (r *uring) submit() {
	*r.array = 0
	*r.tail++
}

func (r *uring) completed() bool { return *r.done != 0 }

// probe are the operations that the kernel has.
func (r *uring) probe() (supported []int, err error) {
	const registerProbe, most = 8, 256
	b := make([]byte, 16+8*most) // struct io_uring_probe
	if _, _, e := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerProbe, address(b), most, 0, 0); e != 0 {
		return nil, e
	}
	for i := range int(b[1]) {
		if op := b[16+8*i:]; op[2]&1 != 0 { // IO_URING_OP_SUPPORTED
			supported = append(supported, int(op[0]))
		}
	}
	return supported, nil
}
