package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/feature"
	"sysbox/runtime/fill"
	"sysbox/runtime/hooks"
	"sysbox/runtime/mount"
	"sysbox/runtime/plan"
	"sysbox/runtime/process"
	"sysbox/runtime/seccomp"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// make applies the plan. What it makes is named in the record before it is
// made; the caller undoes all of it after an error. c.pod.mu is held.
func (c *Container) make(ctx context.Context, r CreateRequest) error {
	c.warn(c.plan.Notes...)
	cg := c.cgroupConfig(r)
	if err := c.describe(cg); err != nil {
		return err
	}
	joins, err := openJoins(c.plan.Namespaces, c.pod.userns)
	if err != nil {
		return err
	}
	defer closeJoins(joins)
	ipc, err := c.settleForeign(joins)
	if err != nil {
		return err
	}
	if c.rec.Cgroup.Unit != "" {
		h, err := startHolder()
		if err != nil {
			return err
		}
		defer h.close()
		cg.HolderPID = h.child.Pid
	}
	// None of these needs another's result, and together they are half of a
	// Create's time.
	others := 0
	if err := together(
		c.takeIDs,
		func() error { return c.makeCgroup(cg) },
		c.compileFilters,
		func() (err error) {
			if c.plan.Cgroup.Delegate {
				others, err = c.rec.others(c.cfg.Dirs())
			}
			return err
		},
	); err != nil {
		return err
	}
	if err := c.plan.CheckIDs(); err != nil {
		return err
	}
	if c.plan.Cgroup.Delegate {
		warnings, err := c.cgroup.Delegate(c.root(), others)
		if err != nil {
			return err
		}
		c.warn(warnings...)
	}
	return c.makeInit(ctx, r, joins, ipc)
}

// together runs functions at the same time and returns the first error in
// their order.
func together(fs ...func() error) error {
	errs := make([]error, len(fs))
	var wg sync.WaitGroup
	for i, f := range fs[1:] {
		wg.Go(func() { errs[i+1] = f() })
	}
	errs[0] = fs[0]()
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// takeIDs completes the plan's ids.
func (c *Container) takeIDs() error {
	ids := &c.plan.IDs
	switch {
	case c.ownIDs():
		if err := c.pod.takeIDs(c.plan); err != nil {
			return err
		}
		c.usesIDs = true
	case c.joinsUser():
		uid, gid, err := uidmap.Of(c.plan.Namespaces.User.Path)
		if err != nil && len(ids.UID) > 0 {
			return nil // it is pinned: checkJoined looks once init is in it
		}
		if err != nil {
			return fmt.Errorf("linux.namespaces: the user namespace %s: %w; give linux.uidMappings and gidMappings as well", c.plan.Namespaces.User.Path, err)
		}
		if len(ids.UID) == 0 {
			ids.UID, ids.GID = uid, gid
		}
		return c.compareMaps(uid, gid)
	}
	return nil
}

func (c *Container) compileFilters() (err error) {
	if c.trap, err = c.trapFilter(); err != nil || c.plan.Seccomp == nil {
		return err
	}
	f, err := seccomp.Compile(c.plan.Seccomp)
	if err != nil {
		return fmt.Errorf("linux.seccomp: %w", err)
	}
	c.filter = &process.Filter{Insns: f.Bytes(), Flags: uint64(f.Flags)}
	if f.Listener {
		c.filter.Flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	return nil
}

// describe writes the record, before anything exists.
func (c *Container) describe(cg cgroup.Config) error {
	var err error
	if c.rec.Shim, err = ownIdentity(); err != nil {
		return err
	}
	c.rec.PIDNS = ownPIDNamespace()
	c.rec.Annotations = c.plan.Annotations
	if h := c.plan.Hooks; h != nil {
		c.rec.Poststop = h.Poststop
	}
	if c.ownIDs() {
		c.rec.IDOwner = c.pod.owner()
	}
	state, err := cgroup.Locate(cg)
	if err != nil {
		return err
	}
	c.rec.Cgroup = &state
	if err := c.pod.register(); err != nil {
		return fmt.Errorf("list the directories of the configuration, state_dir %s and data_dir %s, below %s, by which the container is found when the configuration changes: %w", c.cfg.StateDir, c.cfg.DataDir, hostDir, err)
	}
	return c.rec.write(c.cfg.Dirs())
}

// ownIdentity is the shim's own, which does not change.
var ownIdentity = sync.OnceValues(func() (processID, error) { return identify(os.Getpid()) })

// ownIDs is true if the container lives on its pod's range.
func (c *Container) ownIDs() bool {
	return c.plan.IDs.Source == plan.IDsAllocate || c.plan.IDs.Source == plan.IDsJoin && c.plan.Namespaces.User.Path == ""
}

func (c *Container) cgroupConfig(r CreateRequest) cgroup.Config {
	cfg := cgroup.Config{
		Path: c.plan.Cgroup.Path, Namespace: c.rec.Namespace, ID: c.rec.ID,
		Resources: c.plan.Cgroup.Resources, System: c.plan.Cgroup.Delegate,
	}
	if r.SystemdCgroup != nil {
		cfg.Driver = cgroup.Cgroupfs
		if *r.SystemdCgroup {
			cfg.Driver = cgroup.Systemd
		}
	}
	return cfg
}

func (c *Container) makeCgroup(cfg cgroup.Config) error {
	cg, err := cgroup.Create(cfg)
	if err != nil {
		return fmt.Errorf("make the cgroup: %w", err)
	}
	c.cgroup = cg
	c.warn(cg.Warnings()...)
	return nil
}

// root are the host's ids of the container's root.
func (c *Container) root() cgroup.Owner {
	uid, _ := c.plan.IDs.UID.ToHost(0)
	gid, _ := c.plan.IDs.GID.ToHost(0)
	return cgroup.Owner{UID: uid, GID: gid}
}

// makeInit starts init and builds its mount tree, on a thread that is thrown
// away afterwards: it has namespaces of its own and the container's ids. ipc is
// the namespace of a mqueue file system that the tree gets, or nil.
func (c *Container) makeInit(ctx context.Context, r CreateRequest, joins []join, ipc *os.File) error {
	var s spawn
	defer s.close()
	if err := s.cgroups(c.cgroup, 0); err != nil {
		return err
	}
	_, _, pings := c.plan.PingGroups()
	if err := s.process(c.plan.Process, r.Stdio, c.plan.IDs, pings); err != nil {
		return err
	}
	goRead, goWrite, err := sys.Pipe()
	if err != nil {
		return err
	}
	c.start = goWrite
	s.own(goRead, process.FDGo)
	c.keyring.Name = "_ses." + c.rec.ID
	in := process.Create{
		Plan: c.plan, Shim: os.Getpid(), Owner: c.root().UID, CapLast: hostFacts().CapLast, Limits: s.limits, Tasks: s.tasks, Unified: s.unified,
		Filter: c.filter, Trap: c.trap, Keyring: c.keyring.Name, AskHome: !hasEnv(c.plan.Process.Env, "HOME"),
	}
	for i, j := range joins {
		s.pass(j.file, process.FDFirst+s.tasks+i)
		in.Joins = append(in.Joins, j.kind)
	}
	if c.trapSocket, err = s.listenerSocket(c.filter, c.trap); err != nil {
		return err
	}
	c.namespaces = entered(c.plan.Namespaces)
	prog := process.Init(in)
	err = sys.Thread(func() error {
		if err := outerNamespace(); err != nil {
			return err
		}
		var err error
		if c.setup, err = startProgram(prog, s.files); err != nil {
			return err
		}
		second, err := c.setup.second()
		if err != nil {
			return err
		}
		c.init = newProcess(second, c.hideMirror)
		c.init.killed = c.killed
		return c.complete(ctx, ipc)
	})
	if err == nil {
		err = c.showMirror()
	}
	return err
}

// outerNamespace gives the calling thread a mount namespace of its own that
// still receives what the host mounts.
func outerNamespace() error {
	if err := sys.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := sys.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// complete does from outside what init needs, builds the tree, and lets init
// go on until it is ready.
func (c *Container) complete(ctx context.Context, ipc *os.File) (err error) {
	pid := c.init.Pid()
	if c.rec.Init, err = identify(pid); err != nil {
		return err
	}
	c.rec.UID = c.plan.IDs.UID
	if err := c.rec.write(c.cfg.Dirs()); err != nil {
		return err
	}
	proc := "/proc/" + strconv.Itoa(pid)
	if c.plan.Namespaces.User.Mode == plan.NamespaceNew {
		if err := writeMaps(proc, c.plan.IDs); err != nil {
			return err
		}
	}
	if err := c.checkJoined(proc); err != nil {
		return err
	}
	if ns := c.plan.Namespaces; ns.Time.Mode == plan.NamespaceNew {
		if _, err := c.setup.expect(process.TagTime); err != nil {
			return err
		}
		if err := writeTimeOffsets(proc, ns); err != nil {
			return err
		}
	}
	ns := map[string]*os.File{"ipc": ipc}
	for _, kind := range []string{"user", "pid", "net"} {
		f, err := os.Open(proc + "/ns/" + kind)
		if err != nil {
			return err
		}
		defer f.Close()
		ns[kind] = f
	}
	hostProc, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer hostProc.Close()
	if c.usesIDs && c.pod.userns == nil {
		if c.pod.userns, err = os.Open(proc + "/ns/user"); err != nil {
			return err
		}
	}
	made, err := c.moveNetDevices(ns["net"]) // before the hooks, which may be about them
	if err != nil {
		return err
	}
	defer func() { err = made(err) }()
	if err := c.buildTree(ctx, ns); err != nil {
		return err
	}
	if err := c.makeTraps(ns["user"], hostProc); err != nil {
		return err
	}
	block := make([]byte, process.GoSize)
	copy(block, "HOME="+c.initHome)
	block[len(block)-1] = 0
	if _, err := c.start.Write(block); err != nil {
		return fmt.Errorf("let init go on: %w", err)
	}
	if c.keyring.Serial, err = c.setup.expect(process.TagReady); err != nil {
		return notExecuted(err, c.plan.Process.Args[0])
	}
	if err := c.schedule(); err != nil {
		return err
	}
	if err := c.takeConsole(hostProc); err != nil {
		return err
	}
	if err := c.makeKmsg(hostProc); err != nil {
		return err
	}
	return c.writeSysctls(hostProc)
}

// forceProcHelper and forceChown take the ways of older kernels, for tests.
var forceProcHelper, forceChown = false, false

// buildTree builds the mount tree and pivots this thread, and with it init,
// into it.
func (c *Container) buildTree(ctx context.Context, ns map[string]*os.File) error {
	root := c.root()
	t := &mount.Tree{
		Plan: c.plan, UserNS: ns["user"], PIDNS: ns["pid"], NetNS: ns["net"], IPCNS: ns["ipc"],
		UID: root.UID, GID: root.GID, Storage: mount.Storage{Host: func() (string, error) { return c.hostStorage(ctx) }}, ForceHelper: forceProcHelper,
		Fill:            &fill.Filler{Join: c.joinFiles, UID: root.UID, GID: root.GID},
		RefuseUnshifted: c.cfg.Unshifted == "refuse",
		Warn:            func(s string) { c.warn(s) },
	}
	var err error
	if t.Dir, err = filepath.EvalSymlinks(c.plan.Rootfs.Path); err != nil {
		return fmt.Errorf("root.path: %w; make the folder before Create", err)
	}
	return sys.AsFSID(int(root.UID), int(root.GID), func() error {
		rootfs, err := c.rootfs(ctx, t)
		if err != nil {
			return err
		}
		defer rootfs.Close()
		if err := t.Build(ctx, rootfs); err != nil {
			return err
		}
		if err := c.serveMirror(rootfs); err != nil {
			return err
		}
		c.guarded = t.Guarded()
		var st unix.Statx_t
		if err := unix.Statx(int(rootfs.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &st); err != nil {
			return err
		}
		c.rootDev = unix.Mkdev(st.Dev_major, st.Dev_minor)
		if !hasEnv(c.plan.Process.Env, "HOME") {
			root, err := sys.Openat2(rootfs, ".", unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY})
			if err != nil {
				return err
			}
			c.initHome = c.homeOfImage(root, c.plan.Process.UID)
		}
		for _, kind := range []hooks.Kind{hooks.Prestart, hooks.CreateRuntime, hooks.CreateContainer} {
			if err := c.runHooks(ctx, kind); err != nil {
				return err
			}
		}
		return t.Seal()
	})
}

// rootfs returns the root file system as a detached mount, its ids shifted, and
// makes the tree's storage folders ready.
func (c *Container) rootfs(ctx context.Context, t *mount.Tree) (*os.File, error) {
	root, upper, err := c.mountRootfs(t.UserNS)
	if err != nil {
		return nil, err
	}
	if len(c.plan.Storage) > 0 {
		if err := addDockerRoot(c.plan, root); err != nil {
			c.warn(err.Error())
		}
	}
	again, err := t.PrepareStorage(ctx, root, upper)
	if err == nil && len(t.Storage.InUpper) > 0 {
		c.holds = append(c.holds, t.Storage.Unlock)
		c.rec.Upper, c.rec.InUpper = t.Storage.Upper, t.Storage.InUpper
		err = c.rec.write(c.cfg.Dirs())
	}
	if err != nil || again {
		root.Close()
	}
	if err == nil && again {
		root, upper, err = c.mountRootfs(t.UserNS)
	}
	if err == nil && upper != nil && upper.Caller != "" {
		if err = c.openMirror(root, upper); err != nil {
			root.Close()
		}
	}
	return root, err
}

func (c *Container) mountRootfs(userns *os.File) (*os.File, *uidmap.Upper, error) {
	r := c.plan.Rootfs
	spec := uidmap.Rootfs{
		Dir: r.Path, UserNS: userns, UID: c.plan.IDs.UID, GID: c.plan.IDs.GID, Shift: c.plan.IDs.ShiftRootfs,
		Journal: c.cfg.Dirs().journals(), ForceChown: forceChown,
		Slow: func(why error) {
			c.warn(fmt.Sprintf("the ids of the root file system cannot be shifted, so that its files are chowned now and when the container is deleted, those of an image copied before; this takes long: %v", why))
		},
		BeforeChown: func(root string) error {
			c.warn("root file system " + r.Path + ": this kernel or file system has no overlay over idmapped layers: " + feature.NoIDMappedOverlay)
			c.rec.Shifted = root
			return c.rec.write(c.cfg.Dirs())
		},
	}
	for _, m := range r.Mounts {
		spec.Mounts = append(spec.Mounts, uidmap.Mount(m))
	}
	return spec.Mount()
}

// hostStorage records and makes the host's folder of storage folders. What is
// there is of a container that a power cut has ended: its record is gone.
func (c *Container) hostStorage(ctx context.Context) (string, error) {
	if c.rec.Storage != "" {
		return c.rec.Storage, nil
	}
	c.rec.Storage = filepath.Join(c.cfg.DataDir, "storage", c.rec.Namespace, c.rec.ID)
	if err := c.rec.write(c.cfg.Dirs()); err != nil {
		return "", err
	}
	unlock, err := newStorage(ctx, c.rec.Storage)
	if err != nil {
		return "", err
	}
	c.holds = append(c.holds, unlock)
	return c.rec.Storage, nil
}

// takeConsole takes the master of init's terminal, and a handle by which
// further terminals are opened on the container's own devpts, while nothing
// of the container has run that could put another one there.
func (c *Container) takeConsole(proc *os.File) error {
	if c.plan.Process.Terminal {
		master, err := sys.PidfdGetfd(c.init.proc.PidFD, process.FDConsole)
		if err != nil {
			return fmt.Errorf("take the terminal's master: %w", err)
		}
		// Only a file made non-blocking is served by the poller.
		if c.init.console, err = sys.Pollable(master, "console"); err != nil {
			return err
		}
	}
	pts, err := sys.Openat2(proc, filepath.Join(strconv.Itoa(c.init.Pid()), "root", "dev/pts"), unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW})
	if err != nil {
		return nil // a container without devpts, as its spec asked
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(pts.Fd()), &st); err != nil || st.Type != unix.DEVPTS_SUPER_MAGIC {
		pts.Close()
		return nil
	}
	c.pts = pts
	return nil
}

func writeMaps(proc string, ids plan.IDs) error {
	for _, m := range []struct {
		file string
		ids  uidmap.Map
	}{{"/uid_map", ids.UID}, {"/gid_map", ids.GID}} {
		if err := os.WriteFile(proc+m.file, []byte(m.ids.String()), 0); err != nil {
			return fmt.Errorf("map ids (%s): %w", strings.ReplaceAll(strings.TrimSpace(m.ids.String()), "\n", ", "), err)
		}
	}
	return nil
}

func writeTimeOffsets(proc string, ns plan.Namespaces) error {
	var b strings.Builder
	for _, clock := range []string{"monotonic", "boottime"} {
		if o, ok := ns.TimeOffsets[clock]; ok {
			fmt.Fprintf(&b, "%s %d %d\n", clock, o.Secs, o.Nanosecs)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	if err := os.WriteFile(proc+"/timens_offsets", []byte(b.String()), 0); err != nil {
		return fmt.Errorf("linux.timeOffsets: %w", err)
	}
	return nil
}

// writeSysctls writes through the host's procfs from this thread, which joins
// the container's namespaces for it: the kernel takes the tables of the
// writer's, and no mount of the container's can redirect the path. Those of
// the ipc namespace ask for the effective uid of its root, whatever the
// capabilities, and that of the uts namespace for the host's root.
func (c *Container) writeSysctls(proc *os.File) error {
	if len(c.plan.Sysctl) == 0 {
		return nil
	}
	for kind, flag := range map[string]int{"net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS} {
		ns, err := sys.Openat2(proc, fmt.Sprintf("%d/ns/%s", c.init.Pid(), kind), unix.OpenHow{Flags: unix.O_RDONLY})
		if err != nil {
			return err
		}
		err = sys.Setns(ns, flag)
		ns.Close()
		if err != nil {
			return err
		}
	}
	ofUTS := func(s plan.Setting) bool { return s.Name == "kernel.domainname" }
	for _, s := range c.plan.Sysctl {
		if ofUTS(s) {
			if err := writeSysctl(proc, s); err != nil {
				return err
			}
		}
	}
	root := c.root()
	if err := sys.SetEffectiveIDs(int(root.UID), int(root.GID)); err != nil {
		return err
	}
	for _, s := range c.plan.Sysctl {
		if !ofUTS(s) {
			if err := writeSysctl(proc, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeSysctl(proc *os.File, s plan.Setting) error {
	fd, err := unix.Openat2(int(proc.Fd()), "sys/"+s.ProcPath(), &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH})
	if err == nil {
		_, err = unix.Write(fd, []byte(s.Value))
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("linux.sysctl: set %s to %q: %w", s.Name, s.Value, err)
	}
	return nil
}

func hasEnv(env []string, name string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			return true
		}
	}
	return false
}
