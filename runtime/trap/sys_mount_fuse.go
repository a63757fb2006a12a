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

// FUSE is what block file systems are mounted with.
type FUSE struct {
	// Servers are a program of the container's and its first arguments, by the file
	// system's type.
	Servers map[string][]string
	// Init is O_PATH of the folder of the container's init in the host's procfs, before
	// init has executed anything of the container's. The server of traps closes it.
	Init *os.File
	// Filters is the number of seccomp filters that each process of the container is
	// given; NoNewPrivs is what init has.
	Filters    int
	NoNewPrivs bool
	// Run runs a process in the container until it ends, and returns the beginning of
	// what it has written and its exit status. It is killed when ctx ends, and after a
	// while, with os.ErrDeadlineExceeded. Another error is that it was not executed.
	Run func(ctx context.Context, p plan.Process) (output string, status int, err error)
}

// prepare adds to Filters those that this process has given init.
func (f *FUSE) prepare() error {
	const tid = 1 // any
	init := caller{tid: tid, handle: &procHandle{tid, int(f.Init.Fd())}, opened: true}
	id, err := init.identity()
	if err == nil {
		f.Filters += id.filters
	}
	return err
}

// fuse mounts the file system of a block device, which the kernel refuses in a user
// namespace, by a server in user space: the container's own program that the
// administrator has named for the type. Nothing is granted: the server runs in the
// container with the caller's rights, and the kernel makes the FUSE mount for it as it
// would for the caller. So a path that is changed meanwhile leads where it would lead
// the caller, and neither the kernel nor the host reads what is on the device.
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
		s.logOnce(fmt.Sprintf("the container asked for a mount with the option %q, which servers of FUSE are not given", bad))
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
		s.logOnce(fmt.Sprintf("%q for the container: exit status 0, but the file system is not there (%v): %q", strings.Join(p.Args, " "), v.errno, output))
	}
	return v
}

// orPass is the verdict for an error, or the kernel's if there is none.
func failureOrPass(err error) response {
	if err != nil {
		return failure(err)
	}
	return pass
}

// served is the verdict when a server has ended its set-up with status 0, which fuse2fs
// does also if there is no mount; nor does it tell the kernel that one is read-only.
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

// fuseServer is the server of a file system's type in the caller's memory, nil if there
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

// asInit is a process with the caller's identity, if it can have the caller's rights and
// no more: if the caller is in all namespaces and the root of the container's init, and
// under no other filters. Inner containers' callers are not.
func (s *Server) processLikeInit(c *call, id *identity) (plan.Process, bool) {
	f := s.cfg.FUSE
	if id.euid != id.fsuid || id.egid != id.fsgid || id.filters != f.Filters || id.noNewPrivs && !f.NoNewPrivs {
		return plan.Process{}, false
	}
	init := int(f.Init.Fd())
	for _, kind := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"} {
		theirs, err := c.namespace(kind)
		inits, err2 := namespaceOf(init, "ns/"+kind)
		if theirs != inits || (err == nil) != (err2 == nil) { // a kernel may lack one
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
		// Inheritable and ambient, or only root would have them after the execve.
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

// disk opens what a caller's path leads to, and returns its path without links; -1 for
// what is no block device that the container was given.
func (k *walker) openDisk(path string) (int, string, error) {
	fd, err := k.walk(unix.AT_FDCWD, path, 0)
	if err != nil {
		return -1, "", err
	}
	var st unix.Statx_t
	if st, err = cachedStat(fd); err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && k.w.server.granted("b", int64(st.Rdev_major), int64(st.Rdev_minor)) {
		path, err = k.pathOf(fd)
		if err == nil && !strings.ContainsAny(path, `,\`) { // servers make an option of it
			return fd, path, nil
		}
	}
	unix.Close(fd)
	return -1, "", err
}

// mountPoint is a folder's path without links, and the mount that it is on.
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

// mountAt is the id of the mount that an open file is on. Of the file itself nothing is
// asked: a server of FUSE answers only those in its user namespace.
func mountAt(fd int) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st)
	return st.Mnt_id, err
}

const (
	// leaving is how long a device that is in use is waited for: a server goes on writing
	// for a moment when its mount has gone.
	deviceBusyTimeout = 10 * time.Second
	// glance is how often a caller that may have been killed is looked at.
	callerPollInterval = 50 * time.Millisecond
)

// waitFree waits until nobody has a device for himself: EBUSY if that takes too long.
// What else keeps it from being opened, the server finds.
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

// serveFUSE runs a server until it has made its mount and goes on in the background, as
// those of libfuse do.
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
		s.logOnce(what + "it was not ready in time: " + strconv.Quote(output))
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
