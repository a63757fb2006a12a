package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/plan"
	"sysbox/runtime/process"
	"sysbox/runtime/program"
	"sysbox/runtime/sys"
)

// spawn gathers the files that a program is started with.
type spawn struct {
	files   []program.File
	limits  map[int]unix.Rlimit
	tasks   int
	unified bool
	opened  []*os.File
}

func (s *spawn) pass(f *os.File, at int) { s.files = append(s.files, program.File{File: f, At: at}) }

// own passes a file and closes it with the others.
func (s *spawn) own(f *os.File, at int) {
	s.opened = append(s.opened, f)
	s.pass(f, at)
}

func (s *spawn) close() { closeAll(s.opened) }

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// cgroups passes what the first leg joins the container's cgroups with. init
// is the pid of the container's init, 0 while there is none.
func (s *spawn) cgroups(cg *cgroup.Cgroup, init int) error {
	tasks, err := cg.JoinFiles()
	if err != nil {
		return err
	}
	for i, f := range tasks {
		s.own(f, process.FDFirst+i)
	}
	s.tasks = len(tasks)
	var unified *os.File
	if init == 0 {
		unified, err = cg.UnifiedFD()
	} else {
		unified, err = cg.ExecFD(init)
	}
	if err != nil {
		return err
	}
	if unified != nil {
		s.own(unified, process.FDUnified)
		s.unified = true
	}
	return nil
}

// process passes what every process's program needs besides: the host's procfs, if it is
// to write there, and files 0 to 2. writes: the program writes there by itself.
func (s *spawn) process(p plan.Process, stdio Stdio, ids plan.IDs, writes bool) error {
	if writes || p.AppArmorProfile != "" || p.SELinuxLabel != "" || p.OOMScoreAdj != nil {
		f, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		s.own(f, process.FDProc)
	}
	s.limits = map[int]unix.Rlimit{}
	for _, l := range p.Rlimits {
		var own unix.Rlimit
		if err := unix.Getrlimit(l.Type, &own); err != nil {
			return fmt.Errorf("process.rlimits: %s: %w", l.Name, err)
		}
		s.limits[l.Type] = own
	}
	var null *os.File
	for i, f := range []*os.File{stdio.Stdin, stdio.Stdout, stdio.Stderr} {
		if f == nil {
			if null == nil {
				var err error
				if null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
					return err
				}
				s.opened = append(s.opened, null)
			}
			s.pass(null, i)
			continue
		}
		if err := giveTo(f, p, ids); err != nil {
			return err
		}
		s.pass(f, i)
	}
	return nil
}

// pipefs is the magic of anonymous pipes' file system (linux/magic.h).
const pipefs = 0x50495045

// giveTo makes a process's end of a pipe blocking, as programs expect, and
// its user the owner, so that /dev/stdout can be opened again.
func giveTo(f *os.File, p plan.Process, ids plan.IDs) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		if failed = unix.SetNonblock(int(fd), false); failed != nil {
			return
		}
		var st unix.Statfs_t
		if unix.Fstatfs(int(fd), &st) != nil || st.Type != pipefs {
			return
		}
		uid, okU := ids.UID.ToHost(p.UID)
		gid, okG := ids.GID.ToHost(p.GID)
		if okU && okG {
			failed = unix.Fchown(int(fd), int(uid), int(gid))
		}
	})
	return errors.Join(err, failed)
}

// Exec starts a further process; it is running when Exec returns.
func (c *Container) Exec(ctx context.Context, r ExecRequest) (*Process, error) {
	p, err := plan.MakeProcess(r.Process, r.Terminal, c.plan, hostFacts())
	if err != nil {
		return nil, err
	}
	if err := checkLabel("process.selinuxLabel", p.SELinuxLabel); err != nil {
		return nil, err
	}
	c.warn(p.Notes...)
	if !hasEnv(p.Env, "HOME") {
		p.Env = append(p.Env, "HOME="+c.homeNow(p.UID))
	}
	var master *os.File
	if r.Terminal {
		m, slave, err := c.openTerminal(p)
		if err != nil {
			return nil, err
		}
		defer slave.Close()
		master, r.Stdio = m, Stdio{Stdin: slave, Stdout: slave, Stderr: slave}
	}
	out, err := c.enter(*p, r.Stdio, c.namespaces, c.filter, c.trap)
	if err != nil {
		if master != nil {
			master.Close()
		}
		return nil, err
	}
	out.console = master
	return out, nil
}

// enter runs a process in some of the container's namespaces. It is executing
// its own file when enter returns.
func (c *Container) enter(p plan.Process, stdio Stdio, namespaces uint64, filter, trap *process.Filter) (*Process, error) {
	var s spawn
	defer s.close()
	if err := s.cgroups(c.cgroup, c.init.Pid()); err != nil {
		return nil, err
	}
	if err := s.process(p, stdio, c.plan.IDs, false); err != nil {
		return nil, err
	}
	s.pass(c.init.proc.PidFD, process.FDTarget)
	socket, err := s.listenerSocket(filter, trap)
	if err != nil {
		return nil, err
	}
	if socket != nil {
		defer socket.Close()
	}
	prog := process.Exec(process.Join{
		Process: &p, Shim: os.Getpid(), CapLast: hostFacts().CapLast, Limits: s.limits, Tasks: s.tasks, Unified: s.unified,
		Namespaces: namespaces, Filter: filter, Trap: trap, Keyring: c.keyring,
	})
	// The first leg is killed when the thread ends that started it, and
	// another goroutine could take this one for a thread that it throws away.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	setup, err := startProgram(prog, s.files)
	if err != nil {
		return nil, err
	}
	defer setup.Close()
	second, err := setup.second()
	if err != nil {
		return nil, err
	}
	out := newProcess(second, nil)
	handed := c.handOver(filter, socket, out, specs.StateRunning)
	err = setup.executed(p.Args[0])
	if e := handed(); e != nil {
		err = e
	}
	if err == nil && trap != nil {
		err = c.serveTraps(socket)
	}
	if err != nil {
		out.Signal(int(unix.SIGKILL))
		<-out.done
		out.close()
		return nil, err
	}
	return out, nil
}

// openTerminal opens a terminal on the container's own devpts, found by the
// handle that was taken before anything of the container ran.
func (c *Container) openTerminal(p *plan.Process) (master, slave *os.File, err error) {
	if c.pts == nil {
		return nil, nil, errors.New("the container has no /dev/pts of its own, so there is no terminal to be had; add the mount of type devpts to the spec")
	}
	uid, ok := c.plan.IDs.UID.ToHost(p.UID)
	if !ok {
		return nil, nil, fmt.Errorf("process.user.uid %d is not mapped in the container; use one that is", p.UID)
	}
	root := c.root()
	err = sys.AsFSID(int(root.UID), int(root.GID), func() (err error) {
		master, slave, err = sys.OpenTerminal(c.pts)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if p.Width != 0 || p.Height != 0 {
		err = unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: p.Height, Col: p.Width})
	}
	if err == nil {
		err = slave.Chown(int(uid), -1)
	}
	if err != nil {
		master.Close()
		slave.Close()
		return nil, nil, fmt.Errorf("set up the terminal: %w", err)
	}
	return master, slave, nil
}
