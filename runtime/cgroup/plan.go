// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// setting is one write to one file of a controller.
type setting struct {
	controller string
	file       string
	value      string
	field      string // of the spec, for errors: "linux.resources.memory.limit 1024"
	hint       string // what the user can do if the file does not exist
	// optional settings are skipped if the kernel does not have the file: their value
	// applies without it.
	optional bool
	// prefer is written instead of file if it exists.
	prefer, preferValue string
}

// planner collects settings for a layout; it is pure.
type planner struct {
	l        *Layout
	settings []setting
	warnings []string
	err      error // the first one
}

// plan turns resources into writes, in the order in which they are tried.
func plan(r *specs.LinuxResources, l *Layout) ([]setting, []string, error) {
	p := &planner{l: l}
	if r.CPU != nil {
		p.cpu(r.CPU)
	}
	if r.Memory != nil {
		p.memory(r.Memory)
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		p.pids(*r.Pids.Limit)
	}
	if r.BlockIO != nil {
		p.blockIO(r.BlockIO)
	}
	p.hugepages(r.HugepageLimits)
	if r.Network != nil {
		p.network(r.Network)
	}
	p.rdma(r.Rdma)
	p.unified(r.Unified)
	return p.settings, p.warnings, p.err
}

// refuse records an error: field with its value, reason and hint.
func (p *planner) refuse(field string, value any, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("linux.resources.%s %v: %s", field, value, fmt.Sprintf(format, args...))
	}
}

// controller returns the version that has a controller, and rejects the field if
// neither has it.
func (p *planner) controller(name, field string, value any) int {
	v := p.l.version(name)
	if v == 0 {
		p.refuse(field, value, "the cgroup controller %q is not mounted on this host (%s); remove the field or enable the controller",
			name, p.l.Mode())
	}
	return v
}

// set adds a write whose file depends on the version; a version without a file name has
// no such control.
func (p *planner) set(controller, field string, value any, v1file, v1value, v2file, v2value string) *setting {
	file, val := v1file, v1value
	v := p.controller(controller, field, value)
	if v == 2 {
		file, val = v2file, v2value
	}
	if v == 0 {
		return &setting{}
	}
	if file == "" {
		p.refuse(field, value, "cgroup v%d has no such control; remove the field", v)
		return &setting{}
	}
	p.settings = append(p.settings, setting{
		controller: controller, file: file, value: val,
		field: fmt.Sprintf("linux.resources.%s %v", field, value),
	})
	return &p.settings[len(p.settings)-1]
}

// setOr is set for a value that may only ask for the default of the kernel. If it does
// (holds), it does not matter that the host has no such control. Callers send defaults:
// ctr 1,024 shares, Docker that the OOM killer is on, kubelet a period without a quota.
func (p *planner) setOr(holds bool, controller, field string, value any, v1file, v1value, v2file, v2value string) *setting {
	has := map[int]bool{1: v1file != "", 2: v2file != ""}
	if holds && !has[p.l.version(controller)] {
		return &setting{}
	}
	s := p.set(controller, field, value, v1file, v1value, v2file, v2value)
	s.optional = s.optional || holds
	return s
}

func (p *planner) pids(limit int64) {
	// Since runtime-spec 1.3, 0 is a real limit. init itself counts as one, so 1 is the
	// smallest limit with which init starts: with either no fork succeeds.
	s := itoa(max(limit, 1))
	if limit < 0 {
		s = "max"
	}
	p.setOr(limit < 0, "pids", "pids.limit", limit, "pids.max", s, "pids.max", s)
}

func (p *planner) network(n *specs.LinuxNetwork) {
	if n.ClassID != nil {
		p.setOr(*n.ClassID == 0, "net_cls", "network.classID", *n.ClassID, "net_cls.classid", utoa(uint64(*n.ClassID)), "", "")
	}
	for _, i := range n.Priorities {
		p.setOr(i.Priority == 0, "net_prio", "network.priorities", i.Name, "net_prio.ifpriomap", fmt.Sprintf("%s %d", i.Name, i.Priority), "", "")
	}
}

func itoa(i int64) string  { return strconv.FormatInt(i, 10) }
func utoa(i uint64) string { return strconv.FormatUint(i, 10) }
