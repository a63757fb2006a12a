// SPDX-License-Identifier: Apache-2.0

// Package fusectl lists the kernel's FUSE connections and aborts them. That ends tasks that wait
// for a server that never answers; SIGKILL does not.
//
// What does not belong here: which connections may be aborted, and when (package runtime).
package fusectl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Connection is a FUSE file system's connection to its server
// (Documentation/filesystems/fuse/fuse.rst, "Control filesystem").
type Connection struct {
	// Minor is the minor number of the file system's device, as in mountinfo. The major number is
	// always 0.
	Minor uint32
	// Owner is the host's id of the user in the mount option user_id. The user namespace of the
	// process that mounted maps it.
	Owner uint32
	// Waiting reports whether a request is unanswered.
	Waiting bool
}

// Abort aborts the connections that choose returns, all at once, and returns how many it has
// aborted. Waiting requests and all later ones fail. Abort waits for no server.
//
// It does not need the control file system to be mounted on the host.
func Abort(choose func([]Connection) []Connection) (int, error) {
	if unix.Access("/sys/fs/fuse", unix.F_OK) != nil {
		return 0, nil // the kernel has no FUSE, or has not loaded its module yet
	}
	dir, err := open()
	if err != nil {
		return 0, fmt.Errorf("list FUSE connections: %w", err)
	}
	defer dir.Close()
	all, err := list(dir)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	var errs []error
	aborted := 0
	for _, c := range choose(all) {
		switch err := abort(dir, c); {
		case err == nil:
			aborted++
		case !errors.Is(err, unix.ENOENT): // the connection has ended
			errs = append(errs, err)
		}
	}
	return aborted, errors.Join(errs...)
}

// open opens the control file system, which it mounts for itself. A mount that is attached
// nowhere takes some 30 µs.
func open() (*os.File, error) {
	fs, err := sys.Fsopen("fusectl")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := fs.Create(); err != nil {
		return nil, err
	}
	mount, err := fs.Mount(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, err
	}
	defer mount.Close()
	return sys.Openat2(mount, ".", unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
}

func list(dir *os.File) ([]Connection, error) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var out []Connection
	for _, name := range names {
		minor, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("the FUSE connection %q has a name that is not a number", name)
		}
		var st unix.Stat_t
		if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue // the connection has ended
		}
		out = append(out, Connection{Minor: uint32(minor), Owner: st.Uid, Waiting: waiting(dir, name)})
	}
	return out, nil
}

// waiting reports whether requests wait. It is true also if that is unknown.
func waiting(dir *os.File, name string) bool {
	f, err := sys.Openat2(dir, name+"/waiting", unix.OpenHow{Flags: unix.O_RDONLY})
	if err != nil {
		return true
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	return err != nil || strings.TrimSpace(string(b)) != "0"
}

// abort works on the open directory of the connection. The connection's number could belong to
// another one as soon as it has ended.
func abort(all *os.File, c Connection) error {
	dir, err := sys.Openat2(all, strconv.FormatUint(uint64(c.Minor), 10), unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
	if err != nil {
		return err
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir.Name(), Err: err}
	}
	if st.Uid != c.Owner {
		return unix.ENOENT
	}
	f, err := sys.Openat2(dir, "abort", unix.OpenHow{Flags: unix.O_WRONLY})
	if err != nil {
		return err
	}
	_, err = f.WriteString("1")
	return errors.Join(err, f.Close())
}
