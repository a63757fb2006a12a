package runtime

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/acting"
	"sysbox/runtime/process"
	"sysbox/runtime/program"
	"sysbox/runtime/sys"
)

const (
	// maxPasswd bounds how much of /etc/passwd is looked at.
	maxPasswd = 1 << 20
	// homeReaders bounds how many readings of one container can be stuck.
	homeReaders = 8
)

// homeDeadline bounds how long a process waits for the reading of /etc/passwd, which a
// file system that the container serves itself may never answer.
var homeDeadline = 2 * time.Second

// home is the home folder of a user by the text of /etc/passwd, which read reads; "/" if that
// does not say, or not in time.
func (c *Container) home(uid uint32, read func() ([]byte, error)) string {
	deadline := time.NewTimer(homeDeadline)
	defer deadline.Stop()
	select {
	case c.reading <- struct{}{}:
	case <-deadline.C:
		return "/"
	}
	found := make(chan string, 1)
	go func() {
		defer func() { <-c.reading }()
		text, _ := read() // what cannot be read says nothing
		found <- parseHomes(bytes.NewReader(text))[uid]
	}()
	select {
	case h := <-found:
		if h != "" && len(h) < process.GoSize-len("HOME=")-1 {
			return h
		}
	case <-deadline.C:
	}
	return "/"
}

// homeOfImage is home by an image of which the container has executed nothing yet; it closes
// root.
func (c *Container) homeOfImage(root *os.File, uid uint32) string {
	return c.home(uid, func() ([]byte, error) {
		defer root.Close()
		f, err := openInRoot(root, "/etc/passwd")
		if err != nil {
			return nil, err
		}
		return readPasswd(f)
	})
}

// homeNow is home by the root that init has now. Another process cannot be taken for init: it
// still lives when its root is open.
func (c *Container) homeNow(uid uint32) string {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", c.init.Pid()), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "/"
	}
	if c.init.Signal(0) != nil {
		root.Close()
		return "/"
	}
	return c.home(uid, func() ([]byte, error) {
		defer root.Close()
		return c.passwdNow(root)
	})
}

// passwdNow reads /etc/passwd below a root that the container may have made. No thread of this
// process asks a file system that the container has mounted, whose server may never answer:
// what the kernel does not have in memory, or is not on the image's file system, is opened
// and read by a process in the container's cgroups.
func (c *Container) passwdNow(root *os.File) ([]byte, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	cached := how
	cached.Resolve |= acting.ResolveCached
	var f *os.File
	fd, err := unix.Openat2(int(root.Fd()), "etc/passwd", &cached)
	if err == nil {
		f = os.NewFile(uintptr(fd), "/etc/passwd")
	} else if err == unix.EAGAIN || err == unix.EINTR {
		err = sys.Thread(func() error {
			open := acting.Open(program.Int(acting.First), "etc/passwd", how)
			for range 3 { // EAGAIN: something was renamed meanwhile (openat2(2), RESOLVE_IN_ROOT)
				f, err = acting.Fetch(c.joinFiles, map[int]int{acting.First: int(root.Fd())}, nil, program.Program{open}, "file", nil)
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
	if unix.Mkdev(st.Dev_major, st.Dev_minor) == c.rootDev {
		opened, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), passwdFlags, 0)
		if err != nil {
			return nil, err
		}
		return readPasswd(opened)
	}
	return c.copyPasswd(f)
}

// passwdFlags: a lease on the file must not hold the reader up.
const passwdFlags = os.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC

// copyPasswd reads an O_PATH file by a process in the container's cgroups.
func (c *Container) copyPasswd(f *os.File) ([]byte, error) {
	fd, err := unix.MemfdCreate("passwd", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	text := os.NewFile(uintptr(fd), "passwd")
	const from, to = acting.First, acting.First + 1
	err = sys.Thread(func() error {
		return acting.Run(c.joinFiles, map[int]int{from: int(f.Fd()), to: fd}, nil, program.Program{
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
