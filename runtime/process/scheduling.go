// SPDX-License-Identifier: Apache-2.0

package process

import (
	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
)

// Schedule sets a process's scheduling from outside, because a user namespace may not set most
// policies and priorities.
func Schedule(p plan.Process, pid int) error {
	if s := p.Scheduler; s != nil {
		err := sys.SetScheduler(pid, unix.SchedAttr{
			Policy: s.Policy, Flags: s.Flags, Nice: s.Nice, Priority: s.Priority,
			Runtime: s.Runtime, Deadline: s.Deadline, Period: s.PeriodNs,
		})
		if err != nil {
			return schedulerError(err)
		}
	}
	if p.IOPriority != nil {
		if err := sys.SetIOPriority(pid, p.IOPriority.Value); err != nil {
			return ioPriorityError(err)
		}
	}
	return nil
}
