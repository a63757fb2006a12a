// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// policyRows are linux.memoryPolicy, of node 0, which every machine has.
func policyRows() []Row {
	const f = "linux.memoryPolicy."
	numa := &Condition{"CONFIG_NUMA", func() bool { return exists("/proc/self/numa_maps") }}
	newer := func(major, minor int, name string) *Condition {
		return &Condition{name, func() bool { return numa.Met() && kernel(major, minor) }}
	}
	set := func(mode specs.MemoryPolicyModeType, nodes string, flags ...specs.MemoryPolicyFlagType) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: mode, Nodes: nodes, Flags: flags}
		}
	}
	var rows []Row
	row := func(field, kase string, set func(*specs.Spec), want string, when *Condition) {
		rows = append(rows, Row{Field: f + field, Case: kase, Set: set, Box: "ordinary:policy-" + field + kase, Ask: "mempolicy", Want: want, When: when})
	}
	for _, m := range []struct {
		mode        specs.MemoryPolicyModeType
		nodes, want string
		when        *Condition
	}{
		{specs.MpolDefault, "", "mode 0 nodes 0", numa},
		{specs.MpolPreferred, "0", "mode 1 nodes 1", numa},
		{specs.MpolBind, "0", "mode 2 nodes 1", numa},
		{specs.MpolInterleave, "0", "mode 3 nodes 1", numa},
		{specs.MpolLocal, "", "mode 4 nodes 0", numa},
		{specs.MpolPreferredMany, "0", "mode 5 nodes 1", newer(5, 15, "Linux 5.15")},
		{specs.MpolWeightedInterleave, "0", "mode 6 nodes 1", newer(6, 9, "Linux 6.9")},
	} {
		row("mode", string(m.mode), set(m.mode, m.nodes), m.want, m.when)
	}
	row("nodes", "", set(specs.MpolBind, "0"), "mode 2 nodes 1", numa)
	row("flags[]", string(specs.MpolFRelativeNodes), set(specs.MpolBind, "0", specs.MpolFRelativeNodes), "mode 16386 nodes 1", numa)
	row("flags[]", string(specs.MpolFStaticNodes), set(specs.MpolBind, "0", specs.MpolFStaticNodes), "mode 32770 nodes 1", numa)
	row("flags[]", string(specs.MpolFNumaBalancing), set(specs.MpolBind, "0", specs.MpolFNumaBalancing), "mode 8194 nodes 1",
		&Condition{"CONFIG_NUMA_BALANCING", func() bool { return exists("/proc/sys/kernel/numa_balancing") }})
	refused := func(field, kase string, set func(*specs.Spec), message string) {
		rows = append(rows, Row{Field: f + field, Case: kase, Set: set, Refused: message})
	}
	refused("mode", "unknown", set("X", ""), `linux.memoryPolicy.mode is "X": Linux has no such mode; supported: MPOL_BIND, MPOL_DEFAULT, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED, MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE`)
	refused("nodes", "none of MPOL_BIND", set(specs.MpolBind, ""), `linux.memoryPolicy.nodes: MPOL_BIND needs nodes; set some, for example "0"`)
	refused("nodes", "of MPOL_LOCAL", set(specs.MpolLocal, "0"), `linux.memoryPolicy.nodes is "0": MPOL_LOCAL takes no nodes; remove them`)
	refused("nodes", "not there", set(specs.MpolBind, "1023"), "linux.memoryPolicy: the host's kernel refuses it: invalid argument; use nodes that the host has and linux.resources.cpu.mems allows, and flags that fit the mode")
	refused("flags[]", "unknown", set(specs.MpolBind, "0", "X"), `linux.memoryPolicy.flags[0] is "X": Linux has no such flag; supported: MPOL_F_NUMA_BALANCING, MPOL_F_RELATIVE_NODES, MPOL_F_STATIC_NODES`)
	refused("flags[]", "relative and static", set(specs.MpolBind, "0", specs.MpolFRelativeNodes, specs.MpolFStaticNodes), `linux.memoryPolicy.flags is "[MPOL_F_RELATIVE_NODES MPOL_F_STATIC_NODES]": nodes are either relative or static; use one of the two flags`)
	return rows
}
