// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// maxSocketDir leaves room for a slash and 64 hexadecimal digits in the 108
// bytes of sockaddr_un.sun_path (unix(7)), the final NUL included.
const maxSocketDir = 42

// errServed means that a living shim already listens on the socket.
var errServed = errors.New("a shim serves this socket")

// socketPath names the socket as containerd's shims do, so that it depends only on
// the caller, the namespace and the pod. The names are joined as parts of a path:
// a name with a slash, or "..", would lead to the socket of another pod.
func socketPath(dir, address, namespace, group string) (string, error) {
	for _, x := range [][2]string{{"namespace", namespace}, {"id", group}} {
		if s := x[1]; s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00") {
			return "", fmt.Errorf("-%s is %q, which is not a valid file name; use letters, digits, dots and dashes", x[0], s)
		}
	}
	if !filepath.IsAbs(dir) || len(dir) > maxSocketDir || strings.ContainsRune(dir, 0) {
		return "", fmt.Errorf("socket_dir is %q; it must be an absolute path of at most %d bytes, since the path of a unix socket is limited to 107 bytes", dir, maxSocketDir)
	}
	sum := sha256.Sum256([]byte(filepath.Join(address, namespace, group)))
	return filepath.Join(dir, fmt.Sprintf("%x", sum)), nil
}

// listen binds and listens on path, mode 0600, and returns errServed if a
// living shim already does. It replaces the socket of a dead shim.
//
// It holds the lock of the directory throughout: without it, one of two starts that
// find a dead socket could remove the socket that the other has just bound.
func listen(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	// Affects this process only; start runs one thread of our own code.
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == unix.EADDRINUSE {
		if alive(path) {
			f.Close()
			return nil, errServed
		}
		os.Remove(path)
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return f, nil
}

// alive reports whether a shim listens. A full backlog (EAGAIN) counts, too.
func alive(path string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	return err == nil || err == unix.EAGAIN || err == unix.EINPROGRESS
}

func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if err := sys.Flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: dir, Err: sys.Errno(err)}
	}
	return func() { sys.Unlock(f) }, nil
}

// RemoveDead removes the socket of an address unless a living shim listens on
// it. The delete action calls it: a killed shim cannot remove its own socket.
func RemoveDead(address string) error {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return fmt.Errorf("address %q is not of the form unix:///path", address)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil
	}
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	if alive(path) {
		return nil
	}
	return os.Remove(path)
}
