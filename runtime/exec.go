// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"cmp"
	"context"
	"fmt"
	"os"
	goruntime "runtime"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/host"
	"sysbox/runtime/plan"
	"sysbox/runtime/process"
	"sysbox/runtime/program"
	"sysbox/runtime/seccomp"
	"sysbox/runtime/terminal"
)

// Exec starts a further process; it is running when Exec returns.
func (c *Container) Exec(_ context.Context, r ExecRequest) (*Process, error) {
	p, err := plan.MakeProcess(r.Process, r.Terminal, c.plan, host.Facts())
	if err != nil {
		return nil, err
	}
	if err := host.CheckLabel("process.selinuxLabel", p.SELinuxLabel); err != nil {
		return nil, err
	}
	c.warn(p.Warnings...)
	if !hasEnv(p.Env, "HOME") {
		p.Env = append(p.Env, "HOME="+c.homes.Now(c.init, p.UID))
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
	out.SetConsole(master)
	return out, nil
}

// openTerminal opens a terminal for a process.
func (c *Container) openTerminal(p *plan.Process) (master, slave *os.File, err error) {
	owner, ok := c.plan.IDs.UID.ToHost(p.UID)
	if !ok && c.pts != nil {
		return nil, nil, fmt.Errorf("process.user.uid %d is not mapped in the container; use one that is", p.UID)
	}
	root := c.root()
	return terminal.Open(c.pts, root.UID, root.GID, owner, terminal.Size{Width: p.Width, Height: p.Height})
}

// enter runs a process in some of the container's namespaces. It is executing
// its own file when enter returns.
func (c *Container) enter(p plan.Process, stdio Stdio, namespaces uint64, filter, trap *seccomp.Filter) (*Process, error) {
	var f process.Files
	defer f.Close()
	tasks, unified, err := c.joinFiles()
	if err != nil {
		return nil, err
	}
	f.Cgroups(tasks, unified)
	if err := f.Standard(p, stdio, c.plan.IDs, false); err != nil {
		return nil, err
	}
	f.Pass(c.init.PidFD(), process.FDTarget)
	socket, err := f.ListenerSocket(filter, trap)
	if err != nil {
		return nil, err
	}
	if socket != nil {
		defer socket.Close()
	}
	prog := process.Exec(process.Join{
		Process: &p, Shim: os.Getpid(), CapLast: host.Facts().CapLast, Limits: f.Limits, Tasks: f.Tasks, Unified: f.Unified,
		Namespaces: namespaces, Filter: filter, Trap: trap, Keyring: c.keyring,
	})
	// Stage 1 is killed when the thread ends that started it, and another goroutine could
	// take this one for a thread that it throws away.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	setup, err := c.startProgram(prog, f.List)
	if err != nil {
		return nil, err
	}
	defer setup.Close()
	second, err := setup.Stage2()
	if err != nil {
		return nil, err
	}
	out := process.New(second, nil, nil)
	if trap != nil { // a process of the container's user, and no hook
		if err := c.lowerOOMFloorOf(out); err != nil {
			c.warn(err.Error())
		}
	}
	handed := c.forwardListener(filter, socket, out, specs.StateRunning)
	err = setup.Executed(p.Args[0])
	if e := handed(); e != nil {
		err = e
	}
	if err == nil && trap != nil {
		err = c.serveTraps(socket)
	}
	if err != nil {
		out.Signal(int(unix.SIGKILL))
		<-out.Done()
		out.Close()
		return nil, err
	}
	return out, nil
}

// lowerOOMFloor lets a process of a system container with a memory limit lower its
// oom_score_adj: dockerd, containerd and kubelets do, and start no container otherwise. Its
// memory limit keeps the container from harming others by it.
func (c *Container) lowerOOMFloor(proc *os.File, pid int) error {
	r := c.plan.Cgroup.Resources
	if !c.plan.System || r == nil || r.Memory == nil || r.Memory.Limit == nil || *r.Memory.Limit <= 0 {
		return nil
	}
	return process.LowerOOMFloor(proc, pid)
}

func (c *Container) lowerOOMFloorOf(p *Process) error {
	proc, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer proc.Close()
	return c.lowerOOMFloor(proc, p.Pid())
}

// startProgram starts the program of one of the container's processes.
func (c *Container) startProgram(p program.Program, files []program.File) (*process.Setup, error) {
	if slow := c.cfg.Testing.Slow; slow != nil {
		p = slow(p)
	}
	return process.Start(p, files, c.stepDeadline())
}

func (c *Container) stepDeadline() time.Duration {
	return cmp.Or(c.cfg.Testing.StepDeadline, process.StepDeadline)
}

func hasEnv(env []string, name string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			return true
		}
	}
	return false
}
