// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// NotExecuted explains the failure of a step that looks for name or executes it. It returns other
// errors unchanged.
func NotExecuted(err error, name string) error {
	err = refusedByHost(err)
	var step *program.StepError
	if errors.As(err, &step) && step.Errno != 0 && step.Step.Field == FieldCwd {
		return fmt.Errorf("%s is %q: %w; use a directory in the container", step.Step.Field, step.Step.Value, step.Errno)
	}
	if !errors.As(err, &step) || step.Step.Field != FieldArgs {
		return err
	}
	switch {
	case step.Errno == unix.ENOENT && !strings.Contains(name, "/"):
		return fmt.Errorf("exec: %q: executable file not found in $PATH", name)
	case step.Errno == unix.ENOEXEC:
		return fmt.Errorf("exec: %q: %w; is it built for another architecture, or a script without a #! line?", name, step.Errno)
	case step.Errno != 0:
		return fmt.Errorf("exec: %q: %w", name, step.Errno)
	}
	return err
}

func schedulerError(err error) error {
	return fmt.Errorf("process.scheduler: the host's kernel refuses it: %w; for a real-time policy the shim needs CAP_SYS_NICE, and with cgroup version 1 the container needs linux.resources.cpu.realtimeRuntime", err)
}

func ioPriorityError(err error) error {
	return fmt.Errorf("process.ioPriority: the host's kernel refuses it: %w; for IOPRIO_CLASS_RT the shim needs CAP_SYS_NICE", err)
}

// refusedByHost explains the failure of a step that the host's kernel refuses to the shim.
func refusedByHost(err error) error {
	var step *program.StepError
	if !errors.As(err, &step) || step.Errno == 0 {
		return err
	}
	switch field := step.Step.Field; field {
	case FieldScheduler:
		return schedulerError(step.Errno)
	case FieldMemoryPolicy:
		return fmt.Errorf("%s: the host's kernel refuses it: %w; use nodes that the host has and linux.resources.cpu.mems allows, and flags that fit the mode", field, step.Errno)
	case FieldIOPriority:
		return ioPriorityError(step.Errno)
	case FieldRlimits:
		return fmt.Errorf("%s: the host's kernel refuses to %s: %w; for a limit above containerd's own the shim needs CAP_SYS_RESOURCE, and RLIMIT_NOFILE must not exceed the sysctl fs.nr_open", field, step.Step.Name, step.Errno)
	case FieldOOMScoreAdj:
		return fmt.Errorf("%s is %q: the host's kernel refuses it: %w; for a value below containerd's own the shim needs CAP_SYS_RESOURCE", field, step.Step.Value, step.Errno)
	}
	return err
}
