// Package fusectl lists the kernel's FUSE connections and aborts them: for who waits for a
// server that never answers, and that SIGKILL does not end.
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

// Connection is one of a FUSE file system with its server
// (Documentation/filesystems/fuse/fuse.rst, "Control filesystem").
type Connection struct {
	// Minor is the minor number of the file system's device, as in mountinfo. The major
	// number is 0.
	Minor uint32
	// Owner is the host's id of the user that the mount's option user_id names. It is
	// mapped in the user namespace of who has mounted.
	Owner uint32
	// Waiting tells whether a request has not been answered.
	Waiting bool
}

// Abort aborts the connections that pick picks, all at once, and returns how many. Requests
// that wait fail, and so do all later ones. It waits for no server.
//
// It works as well where the host has not mounted the control file system.
func Abort(pick func([]Connection) []Connection) (int, error) {
	if unix.Access("/sys/fs/fuse", unix.F_OK) != nil {
		return 0, nil // the kernel has no FUSE, or has not loaded its module yet
	}
	dir, err := open()
	if err != nil {
		return 0, fmt.Errorf("look for FUSE connections: %w", err)
	}
	defer dir.Close()
	all, err := list(dir)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	var errs []error
	aborted := 0
	for _, c := range pick(all) {
		switch err := abort(dir, c); {
		case err == nil:
			aborted++
		case !errors.Is(err, unix.ENOENT): // it has ended
			errs = append(errs, err)
		}
	}
	return aborted, errors.Join(errs...)
}

// open opens the control file system, wherever the host has it. A mount that nobody sees
// takes some 30 µs.
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
			return nil, fmt.Errorf("the FUSE connection %q is not named by a number", name)
		}
		var st unix.Stat_t
		if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue // it has ended
		}
		out = append(out, Connection{Minor: uint32(minor), Owner: st.Uid, Waiting: waiting(dir, name)})
	}
	return out, nil
}

// waiting is true also if that cannot be told.
func waiting(dir *os.File, name string) bool {
	f, err := sys.Openat2(dir, name+"/waiting", unix.OpenHow{Flags: unix.O_RDONLY})
	if err != nil {
		return true
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	return err != nil || strings.TrimSpace(string(b)) != "0"
}

// abort goes by the open directory of the connection, which is no other's: the number may be,
// as soon as the connection has ended.
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
