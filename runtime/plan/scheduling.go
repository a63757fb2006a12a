// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// schedPolicies are the numbers of sched(7). SCHED_ISO was reserved and never made.
var schedPolicies = map[specs.LinuxSchedulerPolicy]uint32{
	specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3, specs.SchedIdle: 5, specs.SchedDeadline: 6,
}

// schedFlags are the bits of sched_attr.sched_flags (sched_setattr(2)).
var schedFlags = map[specs.LinuxSchedulerFlag]uint64{
	specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2, specs.SchedFlagDLOverrun: 4, specs.SchedFlagKeepPolicy: 8,
	specs.SchedFlagKeepParams: 16,
}

// clampFlags need values for which runtime-spec 1.3 has no field.
var clampFlags = []specs.LinuxSchedulerFlag{specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax}

// ioClasses are the numbers of ioprio_set(2).
var ioClasses = map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}

func processScheduling(p *specs.Process, out *Process, _ *Plan, _ Facts) error {
	if err := scheduler(p.Scheduler, out); err != nil {
		return err
	}
	io := p.IOPriority
	if io == nil {
		return nil
	}
	class, ok := ioClasses[io.Class]
	if !ok {
		return invalid("process.ioPriority.class", string(io.Class), "Linux has no such class", "supported: IOPRIO_CLASS_RT, IOPRIO_CLASS_BE and IOPRIO_CLASS_IDLE")
	}
	if io.Priority < 0 || io.Priority > 7 {
		return invalid("process.ioPriority.priority", fmt.Sprint(io.Priority), "it must be between 0 and 7", "")
	}
	out.IOPriority = &IOPriority{Value: class<<13 | io.Priority}
	return nil
}

func scheduler(s *specs.Scheduler, out *Process) error {
	if s == nil {
		return nil
	}
	const f = "process.scheduler"
	policy, ok := schedPolicies[s.Policy]
	if !ok {
		return invalid(f+".policy", string(s.Policy), "Linux has no such policy", "supported: SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE and SCHED_DEADLINE")
	}
	if s.Nice < -20 || s.Nice > 19 {
		return invalid(f+".nice", fmt.Sprint(s.Nice), "it must be between -20 and 19", "")
	}
	realtime := policy == 1 || policy == 2
	if realtime && (s.Priority < 1 || s.Priority > 99) {
		return invalid(f+".priority", fmt.Sprint(s.Priority), "a real-time policy needs a priority from 1 to 99", "")
	}
	if !realtime && s.Priority != 0 {
		return invalid(f+".priority", fmt.Sprint(s.Priority), fmt.Sprintf("%s has no priorities", s.Policy), "remove it or use nice")
	}
	if policy == 6 {
		period := s.Period
		if period == 0 {
			period = s.Deadline // sched(7)
		}
		if s.Runtime < 1024 || s.Runtime > s.Deadline || s.Deadline > period {
			return invalid(f, fmt.Sprintf("runtime %d deadline %d period %d", s.Runtime, s.Deadline, s.Period), "SCHED_DEADLINE needs 1024 ≤ runtime ≤ deadline ≤ period, in nanoseconds", "")
		}
	} else if s.Runtime != 0 || s.Deadline != 0 || s.Period != 0 {
		return invalid(f, fmt.Sprintf("runtime %d deadline %d period %d", s.Runtime, s.Deadline, s.Period), fmt.Sprintf("%s does not use these", s.Policy), "remove them or use SCHED_DEADLINE")
	}
	var flags uint64
	for i, name := range s.Flags {
		if slices.Contains(clampFlags, name) {
			return invalid(item(f+".flags", i), string(name), "the runtime spec has no field for the value that it sets", "remove it")
		}
		bit, ok := schedFlags[name]
		if !ok {
			return invalid(item(f+".flags", i), string(name), "Linux has no such flag", "remove it")
		}
		flags |= bit
	}
	out.Scheduler = &Scheduler{
		Policy: policy, Flags: flags, Nice: s.Nice, Priority: uint32(s.Priority),
		Runtime: s.Runtime, Deadline: s.Deadline, PeriodNs: s.Period,
	}
	return nil
}

// personalities are the domains of personality(2) that the spec has.
var personalities = map[specs.LinuxPersonalityDomain]uint64{specs.PerLinux: 0, specs.PerLinux32: 8}

func personality(p *specs.LinuxPersonality) (*Personality, error) {
	if p == nil {
		return nil, nil
	}
	v, ok := personalities[p.Domain]
	if !ok {
		return nil, invalid("linux.personality.domain", string(p.Domain), "unknown value", "supported: LINUX and LINUX32")
	}
	if len(p.Flags) > 0 {
		return nil, invalid("linux.personality.flags", string(p.Flags[0]), "runtime-spec 1.3 defines no flags", "remove it")
	}
	return &Personality{Value: v}, nil
}
