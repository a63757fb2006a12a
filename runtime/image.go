package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/process"
)

const (
	// maxPasswd bounds how much of an image's /etc/passwd is looked at.
	maxPasswd = 1 << 20
	// maxDockerConfig bounds an image's /etc/docker/daemon.json, in bytes.
	maxDockerConfig = 64 << 10
)

// openInRoot opens a path of an image as its processes would see it, but only
// a regular file: never a device, a FIFO or what a magic link leads to. The
// type is looked at before the file is opened, as opening a device has effects.
func openInRoot(root *os.File, p string) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), strings.TrimPrefix(p, "/"), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open in the image", Path: p, Err: err}
	}
	h := os.NewFile(uintptr(fd), p)
	defer h.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &os.PathError{Op: "open in the image", Path: p, Err: errors.New("not a regular file")}
	}
	// A lease on the file must not hold the reader up.
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// addDockerRoot gives storage to the data-root that the image's Docker is told to use.
func addDockerRoot(p *plan.Plan, root *os.File) error {
	f, err := openInRoot(root, plan.DockerConfig)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	var text []byte
	if err == nil {
		defer f.Close()
		text, err = io.ReadAll(io.LimitReader(f, maxDockerConfig+1))
	}
	if err == nil && len(text) > maxDockerConfig {
		err = &os.PathError{Op: "read in the image", Path: plan.DockerConfig, Err: fmt.Errorf("more than %d bytes", maxDockerConfig)}
	}
	if err != nil {
		return fmt.Errorf("no storage for Docker's data-root: %w", err)
	}
	return p.AddDockerRoot(text)
}

// homeDeadline bounds how long a process waits for the reading of /etc/passwd, which a
// file system that the container serves itself may never answer.
var homeDeadline = 2 * time.Second

// homeReaders bounds how many such readings of one container can be stuck.
const homeReaders = 8

// home is the home folder of a user by the /etc/passwd below root, which home closes;
// "/" if that does not say, or not in time.
func (c *Container) home(root *os.File, uid uint32) string {
	deadline := time.NewTimer(homeDeadline)
	defer deadline.Stop()
	select {
	case c.reading <- struct{}{}:
	case <-deadline.C:
		root.Close()
		return "/"
	}
	found := make(chan string, 1)
	go func() {
		defer func() { <-c.reading }()
		defer root.Close()
		f, err := openInRoot(root, "/etc/passwd")
		if err != nil {
			found <- ""
			return
		}
		defer f.Close()
		found <- parseHomes(io.LimitReader(f, maxPasswd))[uid]
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

// homeNow is the same by the root that init has now. Another process cannot be taken
// for init: it still lives when its root is open.
func (c *Container) homeNow(uid uint32) string {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", c.init.Pid()), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "/"
	}
	if c.init.Signal(0) != nil {
		root.Close()
		return "/"
	}
	return c.home(root, uid)
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
