// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/delegate"
	"sysbox/runtime/process"
	"sysbox/runtime/program"
	"sysbox/runtime/sys"
)

const (
	// maxPasswd bounds how much of /etc/passwd is looked at.
	maxPasswd = 1 << 20
	// maxReaders bounds how many readings of one container can be stuck.
	maxReaders = 8
	// homeDeadline bounds how long a process waits for the reading of /etc/passwd, which a
	// file system that the container serves itself may never answer.
	homeDeadline = 2 * time.Second
)

// Homes looks users' homes up in a container's /etc/passwd. Its methods may be called from
// several goroutines.
type Homes struct {
	// Join opens what a process joins the container's cgroups with, which reads for [Homes.Now].
	Join delegate.Join
	// Dev is st_dev of the image's file system; 0 while the container's root is not mounted.
	Dev uint64
	// UID and GID are the host's ids of the container's root.
	UID, GID uint32
	// Deadline bounds each look-up; 0 is the usual two seconds.
	Deadline time.Duration

	readers chan struct{} // a slot for each reading
}

// NewHomes returns a look-up; join is as for [Homes].
func NewHomes(join delegate.Join, deadline time.Duration) *Homes {
	return &Homes{Join: join, Deadline: cmp.Or(deadline, homeDeadline), readers: make(chan struct{}, maxReaders)}
}

// find is the home directory of a user by the text of /etc/passwd, which read reads; "/" if that
// does not say, or not in time.
func (h *Homes) find(uid uint32, read func() ([]byte, error)) string {
	deadline := time.NewTimer(h.Deadline)
	defer deadline.Stop()
	select {
	case h.readers <- struct{}{}:
	case <-deadline.C:
		return "/"
	}
	found := make(chan string, 1)
	go func() {
		defer func() { <-h.readers }()
		text, _ := read() // what cannot be read says nothing
		found <- parseHomes(bytes.NewReader(text))[uid]
	}()
	select {
	case home := <-found:
		if home != "" && len(home) < process.SyncSize-len("HOME=")-1 {
			return home
		}
	case <-deadline.C:
	}
	return "/"
}

// OfImage is the home of a user, by its id in the container, in an image of which the container
// has executed nothing yet; "/" if that does not say. It closes root.
func (h *Homes) OfImage(root *os.File, uid uint32) string {
	return h.find(uid, func() ([]byte, error) {
		defer root.Close()
		f, err := Open(root, "/etc/passwd")
		if err != nil {
			return nil, err
		}
		return readPasswd(f)
	})
}

// Now is the home of a user by the root that init has now; "/" if that does not say. Another
// process cannot be taken for init: it still lives when its root is open.
func (h *Homes) Now(init *process.Process, uid uint32) string {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", init.Pid()), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "/"
	}
	if init.Signal(0) != nil {
		root.Close()
		return "/"
	}
	return h.find(uid, func() ([]byte, error) {
		defer root.Close()
		return h.passwdNow(root)
	})
}

// passwdNow reads /etc/passwd below a root that the container may have made. No thread of this
// process asks a file system that the container has mounted, whose server may never answer:
// what the kernel does not have in memory, or is not on the image's file system, is opened
// and read by a process in the container's cgroups.
func (h *Homes) passwdNow(root *os.File) ([]byte, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	cached := how
	cached.Resolve |= delegate.ResolveCached
	var f *os.File
	// As the owner of the directories: for others the kernel looks for ACLs, which an overlay of
	// idmapped layers has not in memory (ovl_get_inode_acl in fs/overlayfs/inode.c, Linux 6.2).
	err := sys.AsFSID(int(h.UID), int(h.GID), func() error {
		fd, err := unix.Openat2(int(root.Fd()), "etc/passwd", &cached)
		if err == nil {
			f = os.NewFile(uintptr(fd), "/etc/passwd")
		}
		return err
	})
	if err == unix.EAGAIN || err == unix.EINTR {
		err = sys.Thread(func() error {
			open := delegate.Open(program.Int(delegate.First), "etc/passwd", how)
			for range 3 { // EAGAIN: something was renamed meanwhile (openat2(2), RESOLVE_IN_ROOT)
				f, err = delegate.Fetch(h.Join, map[int]int{delegate.First: int(root.Fd())}, nil, program.Program{open}, "file", nil)
				if !errors.Is(err, unix.EAGAIN) {
					break
				}
			}
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("/etc/passwd is not a regular file")
	}
	if unix.Mkdev(st.Dev_major, st.Dev_minor) == h.Dev {
		opened, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), passwdFlags, 0)
		if err != nil {
			return nil, err
		}
		return readPasswd(opened)
	}
	return h.copyPasswd(f)
}

// passwdFlags: a lease on the file must not hold the reader up.
const passwdFlags = os.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC

// copyPasswd reads an O_PATH file by a process in the container's cgroups.
func (h *Homes) copyPasswd(f *os.File) ([]byte, error) {
	fd, err := unix.MemfdCreate("passwd", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	text := os.NewFile(uintptr(fd), "passwd")
	const from, to = delegate.First, delegate.First + 1
	err = sys.Thread(func() error {
		return delegate.Run(h.Join, map[int]int{from: int(f.Fd()), to: fd}, nil, program.Program{
			{Name: "open the file", Nr: unix.SYS_OPENAT, Label: "file", Args: []program.Arg{
				program.Int(unix.AT_FDCWD), program.Str(fmt.Sprintf("/proc/self/fd/%d", from)), program.Int(passwdFlags), program.Int(0),
			}},
			{Name: "copy it", Nr: unix.SYS_SENDFILE, Args: []program.Arg{program.Int(to), program.Result("file"), program.Int(0), program.Int(maxPasswd)}},
		})
	})
	if err == nil {
		_, err = text.Seek(0, io.SeekStart)
	}
	if err != nil {
		text.Close()
		return nil, err
	}
	return readPasswd(text)
}

// readPasswd reads a file and closes it.
func readPasswd(f *os.File) ([]byte, error) {
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPasswd))
}

// parseHomes reads passwd(5); of lines for one uid the first counts.
func parseHomes(passwd io.Reader) map[uint32]string {
	out := map[uint32]string{}
	s := bufio.NewScanner(passwd)
	for s.Scan() {
		fields := strings.Split(s.Text(), ":")
		if len(fields) < 6 || !path.IsAbs(fields[5]) || strings.ContainsRune(fields[5], 0) {
			continue
		}
		uid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			continue
		}
		if _, ok := out[uint32(uid)]; !ok {
			out[uint32(uid)] = strings.Clone(fields[5])
		}
	}
	return out
}
