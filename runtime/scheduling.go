package runtime

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"sysbox/runtime/process"
	"sysbox/runtime/program"
	"sysbox/runtime/sys"
)

// schedule sets init's scheduling from outside: a user namespace has no right to most
// policies and priorities.
func (c *Container) schedule() error {
	p, pid := c.plan.Process, c.init.Pid()
	if s := p.Scheduler; s != nil {
		err := sys.SetScheduler(pid, unix.SchedAttr{
			Policy: s.Policy, Flags: s.Flags, Nice: s.Nice, Priority: s.Priority,
			Runtime: s.Runtime, Deadline: s.Deadline, Period: s.PeriodNs,
		})
		if err != nil {
			return notScheduled(err)
		}
	}
	if p.IOPriority != nil {
		if err := sys.SetIOPriority(pid, p.IOPriority.Value); err != nil {
			return noIOPriority(err)
		}
	}
	return nil
}

func notScheduled(err error) error {
	return fmt.Errorf("process.scheduler: the host's kernel refuses it: %w; real-time policies need CAP_SYS_NICE of the shim, and with cgroup version 1 linux.resources.cpu.realtimeRuntime", err)
}

func noIOPriority(err error) error {
	return fmt.Errorf("process.ioPriority: the host's kernel refuses it: %w; IOPRIO_CLASS_RT needs CAP_SYS_NICE of the shim", err)
}

// refusedByHost says the same of what a program does itself.
func refusedByHost(err error) error {
	var step *program.StepError
	if !errors.As(err, &step) || step.Errno == 0 {
		return err
	}
	switch field := step.Step.Field; field {
	case process.FieldScheduler:
		return notScheduled(step.Errno)
	case process.FieldMemoryPolicy:
		return fmt.Errorf("%s: the host's kernel refuses it: %w; give nodes that the host has and linux.resources.cpu.mems allows, and flags that go with the mode", field, step.Errno)
	case process.FieldIOPriority:
		return noIOPriority(step.Errno)
	case process.FieldRlimits:
		return fmt.Errorf("%s: the host's kernel refuses to %s: %w; a limit above containerd's own needs CAP_SYS_RESOURCE there, and no RLIMIT_NOFILE may be above the sysctl fs.nr_open", field, step.Step.Name, step.Errno)
	case process.FieldOOMScoreAdj:
		return fmt.Errorf("%s is %q: the host's kernel refuses it: %w; one below containerd's own needs CAP_SYS_RESOURCE there", field, step.Step.Value, step.Errno)
	}
	return err
}
