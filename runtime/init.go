// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/host"
	"sysbox/runtime/kill"
	"sysbox/runtime/namespace"
	"sysbox/runtime/netdev"
	"sysbox/runtime/plan"
	"sysbox/runtime/process"
	"sysbox/runtime/program"
	"sysbox/runtime/state"
	"sysbox/runtime/sys"
	"sysbox/runtime/terminal"
)

// startInit starts init and builds its mount tree, on a thread that is thrown
// away afterwards: it has namespaces of its own and the container's ids.
func (c *creation) startInit(ctx context.Context) error {
	var f process.Files
	defer f.Close()
	prog, err := c.writeProgram(&f)
	if err != nil {
		return err
	}
	err = sys.Thread(func() (err error) {
		if err := outerNamespace(); err != nil {
			return err
		}
		if err := c.spawnInit(prog, f.List); err != nil {
			return err
		}
		h, err := c.openHandles()
		if err != nil {
			return err
		}
		defer h.close()
		moved, err := netdev.Move(h.net, c.plan.NetDevices) // before the hooks, which may be about them
		if err != nil {
			return err
		}
		defer func() { err = moved.Finish(err) }()
		if err := c.buildTree(ctx, h); err != nil {
			return err
		}
		if err := c.makeTraps(h.user, h.proc, c.masked); err != nil {
			return err
		}
		return c.finishInit(h)
	})
	if err != nil {
		return err
	}
	return c.showMirror()
}

// writeProgram writes init's program, and gathers its files.
func (c *creation) writeProgram(f *process.Files) (program.Program, error) {
	tasks, err := c.cgroup.JoinFiles()
	if err != nil {
		return nil, err
	}
	unified, err := c.cgroup.UnifiedFD()
	if err != nil {
		process.CloseAll(tasks)
		return nil, err
	}
	f.Cgroups(tasks, unified)
	_, _, pings := c.plan.PingGroups()
	if err := f.Standard(c.plan.Process, c.req.Stdio, c.plan.IDs, pings); err != nil {
		return nil, err
	}
	syncRead, syncWrite, err := sys.Pipe()
	if err != nil {
		return nil, err
	}
	c.pending = &pending{sync: syncWrite}
	f.Own(syncRead, process.FDSync)
	c.keyring.Name = "_ses." + c.rec.ID
	in := process.Create{
		Plan: c.plan, Shim: os.Getpid(), Owner: c.root().UID, CapLast: host.Facts().CapLast, Limits: f.Limits, Tasks: f.Tasks, Unified: f.Unified,
		Filter: c.filter, Trap: c.trap, Keyring: c.keyring.Name, HomeFromSync: !hasEnv(c.plan.Process.Env, "HOME"),
	}
	for i, j := range c.joins {
		f.Pass(j.File, process.FDFirst+f.Tasks+i)
		in.Joins = append(in.Joins, j.Kind)
	}
	if c.pending.socket, err = f.ListenerSocket(c.filter, c.trap); err != nil {
		return nil, err
	}
	return process.Init(in), nil
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

// spawnInit starts init, records it, and writes the maps and offsets of its namespaces.
func (c *creation) spawnInit(prog program.Program, files []program.File) (err error) {
	if c.pending.setup, err = c.startProgram(prog, files); err != nil {
		return err
	}
	second, err := c.pending.setup.Stage2()
	if err != nil {
		return err
	}
	c.init = process.New(second, c.killed, c.hideMirror)
	c.watch = kill.NewWatch(*c.target(), c.init.Done())
	pid := c.init.Pid()
	if c.rec.Init, err = state.Identify(pid); err != nil {
		return err
	}
	c.rec.UID = c.plan.IDs.UID
	if err := c.saveRecord(); err != nil {
		return err
	}
	ns := c.plan.Namespaces
	if ns.User.Mode == plan.NamespaceNew {
		if err := namespace.WriteMaps(procDir(pid), c.plan.IDs); err != nil {
			return err
		}
	}
	if err := namespace.CheckJoined(c.plan, procDir(pid), c.cfg.IDs.AllowHostRoot); err != nil {
		return err
	}
	if ns.Time.Mode == plan.NamespaceNew {
		if _, err := c.pending.setup.Expect(process.TagTime); err != nil {
			return err
		}
		if err := namespace.WriteTimeOffsets(procDir(pid), ns); err != nil {
			return err
		}
	}
	return c.claim.publish(procDir(pid))
}

// killed is called whenever init was sent SIGKILL.
func (c *Container) killed() { c.watch.Killed() }

// handles are what the shim's thread needs of init and of the host once it is in the
// container's mount tree.
type handles struct{ user, pid, net, proc *os.File }

func (h *handles) close() {
	for _, f := range []*os.File{h.user, h.pid, h.net, h.proc} {
		if f != nil {
			f.Close()
		}
	}
}

func (c *creation) openHandles() (_ *handles, err error) {
	h := &handles{}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	for kind, f := range map[string]**os.File{"user": &h.user, "pid": &h.pid, "net": &h.net} {
		if *f, err = os.Open(procDir(c.init.Pid()) + "/ns/" + kind); err != nil {
			return nil, err
		}
	}
	h.proc, err = os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	return h, err
}

// finishInit resumes init, and when it waits for Start does from outside what is left.
func (c *creation) finishInit(h *handles) error {
	block := make([]byte, process.SyncSize)
	copy(block, "HOME="+c.home)
	block[len(block)-1] = 0
	if _, err := c.pending.sync.Write(block); err != nil {
		return fmt.Errorf("let init go on: %w", err)
	}
	var err error
	if c.keyring.Serial, err = c.pending.setup.Expect(process.TagReady); err != nil {
		return process.NotExecuted(err, c.plan.Process.Args[0])
	}
	pid, root := c.init.Pid(), c.root()
	if err := process.Schedule(c.plan.Process, pid); err != nil {
		return err
	}
	if err := c.lowerOOMFloor(h.proc, pid); err != nil {
		return err
	}
	if c.plan.Process.Terminal {
		master, err := terminal.TakeMaster(c.init)
		if err != nil {
			return err
		}
		c.init.SetConsole(master)
	}
	if c.pts = terminal.FindPTS(h.proc, pid); c.pts != nil {
		c.undo.add(closing(func() { c.pts.Close() }))
		if c.plan.Systemd {
			if c.kmsg, err = terminal.MakeKmsg(c.pts, h.proc, pid, root.UID, root.GID); err != nil {
				return err
			}
			c.undo.add(closing(c.kmsg.Close))
		}
	}
	if err := c.tree.AttachLate(h.proc, pid); err != nil {
		return err
	}
	return namespace.WriteSysctls(h.proc, c.plan.Sysctl, pid, root.UID, root.GID)
}
