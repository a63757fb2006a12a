// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Silence is a FUSE file system of a container's in which there is only a file, "file", and
// which never answers who asks for a name that begins with "silent".
type Silence struct {
	Asked chan bool // one for each of these
}

// NewSilence mounts one at a folder, which it makes.
func NewSilence(dir string) (*Silence, error) {
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", dev)
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount("silence", dir, "fuse", 0, options)); err != nil {
		return nil, err
	}
	s := &Silence{Asked: make(chan bool, 1000)}
	go s.serve(dev)
	return s, nil
}

// serve speaks FUSE, linux/fuse.h, as far as it is needed.
func (s *Silence) serve(dev int) {
	const lookup, forget, open, statfs, initialise, interrupt, batchForget = 1, 2, 14, 17, 26, 36, 42
	le := binary.LittleEndian
	reply := func(unique uint64, errno unix.Errno, data []byte) {
		b := le.AppendUint32(nil, uint32(16+len(data)))
		b = le.AppendUint32(b, uint32(-int32(errno)))
		_, _ = unix.Write(dev, append(le.AppendUint64(b, unique), data...))
	}
	b := make([]byte, 1<<16)
	for {
		n, err := unix.Read(dev, b)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil {
			return
		}
		unique := le.Uint64(b[8:])
		switch le.Uint32(b[4:]) {
		case initialise:
			out := make([]byte, 64)
			le.PutUint32(out, 7)
			le.PutUint32(out[4:], 31)
			le.PutUint32(out[12:], 1<<18) // FUSE_PARALLEL_DIROPS
			le.PutUint32(out[20:], 4096)  // max_write
			reply(unique, 0, out)
		case lookup:
			if strings.HasPrefix(string(b[40:n]), "silent") {
				s.Asked <- true
				continue
			}
			if string(b[40:n]) == "file\x00" {
				out := make([]byte, 128)
				le.PutUint64(out, 2)                        // node
				le.PutUint32(out[100:], unix.S_IFREG|0o666) // mode
				le.PutUint32(out[104:], 1)                  // links
				reply(unique, 0, out)
				continue
			}
			reply(unique, unix.ENOENT, nil)
		case open:
			reply(unique, 0, make([]byte, 16))
		case statfs:
			reply(unique, 0, make([]byte, 80))
		case forget, interrupt, batchForget:
		default:
			reply(unique, unix.ENOSYS, nil)
		}
	}
}

// Swallow mounts a file system of FUSE whose server, the goroutine that calls serve, takes
// all requests, tells of it, and answers none but the first.
func Swallow(dir string) (serve func(taken func()) error, err error) {
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR, 0)
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err == nil {
		err = unix.Mount("swallow", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse))
	}
	return func(taken func()) error {
		buf := make([]byte, 1<<18)
		for {
			if _, err := unix.Read(fuse, buf); err != nil {
				return err
			}
			le := binary.LittleEndian
			op, id := le.Uint32(buf[4:]), le.Uint64(buf[8:])
			if op != 26 { // FUSE_INIT
				taken()
				continue
			}
			out := make([]byte, 16+64) // struct fuse_out_header, fuse_init_out
			le.PutUint32(out, uint32(len(out)))
			le.PutUint64(out[8:], id)
			le.PutUint32(out[16:], 7)
			le.PutUint32(out[20:], 31)
			le.PutUint32(out[24:], 1<<17)
			le.PutUint32(out[36:], 1<<17) // max_write
			if _, err := unix.Write(fuse, out); err != nil {
				return fmt.Errorf("init: %w", err)
			}
		}
	}, err
}
