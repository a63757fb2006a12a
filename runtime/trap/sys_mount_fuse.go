// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
)

// FUSE says how block file systems are mounted.
type FUSE struct {
	// Servers has, for each type of file system, a program in the container and its first
	// arguments.
	Servers map[string][]string
	// Init is the directory of the container's init in the host's procfs, opened with O_PATH
	// before init has executed anything of the container. [Server.Close] closes it.
	Init *os.File
	// Filters is the number of seccomp filters that the shim gives each process of the container.
	// NoNewPrivs is that of init.
	Filters    int
	NoNewPrivs bool
	// Run runs a process in the container until it ends. It returns the beginning of its output
	// and its exit status. The process is killed when ctx ends, or after a deadline with
	// os.ErrDeadlineExceeded. Any other error means that it was not executed.
	Run func(ctx context.Context, p plan.Process) (output string, status int, err error)
}

// prepare adds the seccomp filters that init has inherited from the shim to Filters.
func (f *FUSE) prepare() error {
	const tid = 1 // any number
	init := caller{tid: tid, handle: &procHandle{tid, int(f.Init.Fd())}, opened: true}
	id, err := init.identity()
	if err == nil {
		f.Filters += id.filters
	}
	return err
}

// fuse mounts the file system of a block device, which the kernel refuses in a user namespace. It
// runs a server in user space: a program in the container that the administrator has configured
// for the type. Nothing is granted: the server runs in the container with the caller's rights,
// and the kernel makes the FUSE mount for it as it would for the caller. So a path that changes
// in the meantime leads where it would lead the caller, and neither the kernel nor the host reads
// what is on the device.
func (w *worker) fuse(c *call, server []string) response {
	s := w.server
	id, mounts, ok := s.mayMount(c)
	if !ok {
		return pass
	}
	defer unix.Close(mounts)
	p, ok := s.processLikeInit(c, id)
	if !ok {
		return pass
	}
	text, err := c.mountTexts()
	if err != nil {
		return pass
	}
	k, ok := w.walker(c, id, 0)
	if !ok {
		return pass
	}
	defer k.close()
	device, path, err := k.openDisk(text[0])
	if err != nil || device < 0 {
		return failureOrPass(err)
	}
	defer unix.Close(device)
	dir, before, err := k.mountPoint(text[1])
	if err != nil {
		return failure(err)
	}
	options, bad := fuseOptions(c.args[3], text[2])
	if bad != "" {
		s.logOnce(fmt.Sprintf("the container asked for a mount with the option %q, which is not passed to FUSE servers; mount without it, and put options of the server into fuse_mounts in the configuration", bad))
		return fail(unix.EINVAL)
	}
	if err := k.waitUntilFree(device); err != nil {
		return failure(err)
	}
	p.Args = append(slices.Clone(server), "-o", options, path, dir)
	output, v := w.serveFUSE(c, p)
	if v.errno != 0 || v.pass {
		return v
	}
	v = k.mountedResponse(mounts, dir, before)
	if v.errno != 0 {
		s.logOnce(fmt.Sprintf("%q for the container: exit status 0, but the file system is not mounted (%v): %q", strings.Join(p.Args, " "), v.errno, output))
	}
	return v
}

// failureOrPass is the response for an error, or [pass] if there is none.
func failureOrPass(err error) response {
	if err != nil {
		return failure(err)
	}
	return pass
}

// mountedResponse is the response after a server has finished its set-up with status 0. fuse2fs
// does so even if it has not mounted, and it does not tell the kernel that a mount is read-only.
func (k *walker) mountedResponse(mounts int, dir string, before uint64) response {
	at, err := k.walk(unix.AT_FDCWD, dir, unix.O_DIRECTORY)
	if err != nil {
		return failure(err)
	}
	defer unix.Close(at)
	if after, err := mountAt(at); err != nil || after == before {
		return fail(unix.EINVAL)
	}
	if k.c.args[3]&unix.MS_RDONLY == 0 {
		return response{}
	}
	if err := k.w.restoreCreds(); err != nil {
		return failure(err)
	}
	if err := k.w.joinMounts(mounts); err != nil {
		return failure(err)
	}
	if err := unix.MountSetattr(at, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return failure(err)
	}
	return response{}
}

// fuseServer returns the server for the type that is in the caller's memory at typ; nil if there
// is none.
func (s *Server) fuseServer(c *call, typ uint64) []string {
	if s.cfg.FUSE == nil {
		return nil
	}
	name, err := c.text(typ, 64, unix.EINVAL)
	if err != nil {
		return nil
	}
	return s.cfg.FUSE.Servers[name]
}

// processLikeInit returns a process with the caller's identity, if it would have the caller's
// rights and no more: the caller must have the same namespaces and root as the container's init,
// and no further seccomp filters. Callers in inner containers do not.
func (s *Server) processLikeInit(c *call, id *identity) (plan.Process, bool) {
	f := s.cfg.FUSE
	if id.euid != id.fsuid || id.egid != id.fsgid || id.filters != f.Filters || id.noNewPrivs && !f.NoNewPrivs {
		return plan.Process{}, false
	}
	init := int(f.Init.Fd())
	for _, kind := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"} {
		theirs, err := c.namespace(kind)
		inits, err2 := namespaceOf(init, "ns/"+kind)
		if theirs != inits || (err == nil) != (err2 == nil) { // a kernel may lack one of them
			return plan.Process{}, false
		}
	}
	root := func(st *unix.Statx_t) func(dir int) error {
		return func(dir int) error {
			return unix.Statx(dir, "root", unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID|unix.STATX_INO, st)
		}
	}
	var theirs, inits unix.Statx_t
	if c.withHandle(root(&theirs)) != nil || root(&inits)(init) != nil || theirs.Mnt_id != inits.Mnt_id || theirs.Ino != inits.Ino {
		return plan.Process{}, false
	}
	uid, okU := s.cfg.UID.ToContainer(id.euid)
	gid, okG := s.cfg.GID.ToContainer(id.egid)
	umask := uint32(id.umask)
	p := plan.Process{
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Cwd: "/",
		UID: uid, GID: gid, Umask: &umask, NoNewPrivs: id.noNewPrivs,
		// Without inheritable and ambient ones, only root would have capabilities after execve.
		Caps: plan.Capabilities{Bounding: id.effective, Effective: id.effective, Permitted: id.effective, Inheritable: id.effective, Ambient: id.effective},
	}
	for _, g := range id.groups {
		group, ok := s.cfg.GID.ToContainer(g)
		okG = okG && ok
		p.AdditionalGIDs = append(p.AdditionalGIDs, group)
	}
	var err error
	if p.Rlimits, err = c.limits(); err != nil {
		return plan.Process{}, false
	}
	return p, okU && okG && c.waits()
}

// openDisk opens a path of the caller, and returns the path without symlinks. It returns -1 if
// the path leads to no block device that the container was given.
func (k *walker) openDisk(path string) (int, string, error) {
	fd, err := k.walk(unix.AT_FDCWD, path, 0)
	if err != nil {
		return -1, "", err
	}
	var st unix.Statx_t
	if st, err = cachedStat(fd); err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && k.w.server.granted("b", int64(st.Rdev_major), int64(st.Rdev_minor)) {
		path, err = k.pathOf(fd)
		if err == nil && !strings.ContainsAny(path, `,\`) { // servers would take these for separators of options
			return fd, path, nil
		}
	}
	unix.Close(fd)
	return -1, "", err
}

// mountPoint returns a directory's path without symlinks, and the id of the mount it is on.
func (k *walker) mountPoint(target string) (path string, mount uint64, err error) {
	at, err := k.walk(unix.AT_FDCWD, target, unix.O_DIRECTORY)
	if err != nil {
		return "", 0, err
	}
	defer unix.Close(at)
	if mount, err = mountAt(at); err == nil {
		path, err = k.pathOf(at)
	}
	return path, mount, err
}

// mountAt returns the id of the mount that an open file is on. It does not ask for the file
// itself: a FUSE server answers only processes in its own user namespace.
func mountAt(fd int) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st)
	return st.Mnt_id, err
}

const (
	// deviceBusyTimeout is how long to wait for a device that is in use: a server continues to
	// write for a moment after its mount has gone.
	deviceBusyTimeout = 10 * time.Second
	// callerPollInterval is how often to check whether a caller was killed.
	callerPollInterval = 50 * time.Millisecond
)

// waitUntilFree waits until no process has opened a device exclusively. It fails with EBUSY if
// that takes too long. The server will find any other reason why the device cannot be opened.
func (k *walker) waitUntilFree(device int) error {
	w, c := k.w, k.c
	if err := k.enterRoot(); err != nil {
		return err
	}
	for end := time.Now().Add(deviceBusyTimeout); ; time.Sleep(callerPollInterval) {
		fd, err := unix.Openat(w.server.proc, "thread-self/fd/"+itoa(int32(device)), unix.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		if err != unix.EBUSY {
			return nil
		}
		switch {
		case !c.waits():
			return unix.EINTR
		case time.Now().After(end) || w.server.closed():
			return unix.EBUSY
		}
	}
}

// serveFUSE runs a server until it has mounted and continues in the background, as servers that
// use libfuse do.
func (w *worker) serveFUSE(c *call, p plan.Process) (output string, v response) {
	s := w.server
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var status int
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		output, status, err = s.cfg.FUSE.Run(ctx, p)
	}()
	tick := time.NewTicker(callerPollInterval)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		case <-tick.C:
			if !c.waits() || s.closed() || s.freezeWaits() {
				cancel()
			}
		}
	}
	what := fmt.Sprintf("%q for the container: ", strings.Join(p.Args, " "))
	switch {
	case ctx.Err() != nil:
		v = fail(unix.EINTR)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.logOnce(what + "not ready in time: " + strconv.Quote(output))
		v = fail(unix.EIO)
	case err != nil:
		s.logOnce(what + err.Error())
		v = pass
	case status != 0:
		s.logOnce(fmt.Sprintf("%sexit status %d: %q", what, status, output))
		v = fail(unix.EINVAL)
	}
	return output, v
}
