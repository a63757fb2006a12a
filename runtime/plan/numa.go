// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The largest numbers of CPUs and of memory nodes that Linux can be built for.
const (
	maxCPU  = 8192
	maxNode = 1024
)

// parseCPUs reads a list of CPUs as sorted numbers. The kernel knows which of them exist:
// it ignores the others unless none exists.
func parseCPUs(field, list string) ([]int, error) { return parseList(field, list, "CPUs", maxCPU) }

// parseList reads a list such as "0-3,7" of numbers below limit.
func parseList(field, list, what string, limit uint64) ([]int, error) {
	if list == "" {
		return nil, nil
	}
	bad := func(reason string) ([]int, error) {
		return nil, invalid(field, list, reason, `use a list such as "0-3,7"`)
	}
	var out []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		a, err := strconv.ParseUint(from, 10, 32)
		if err != nil {
			return bad("it is not a list of numbers and ranges")
		}
		b, err := strconv.ParseUint(to, 10, 32)
		if err != nil {
			return bad("it is not a list of numbers and ranges")
		}
		if a > b {
			return bad("a range ends before it begins")
		}
		if b >= limit {
			return bad(fmt.Sprintf("Linux has at most %d %s", limit, what))
		}
		for n := a; n <= b; n++ {
			out = append(out, int(n))
		}
		if len(out) > int(limit) {
			return bad("it lists the same " + what + " too often")
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// memoryModes are the numbers of set_mempolicy(2), and whether the mode takes nodes.
var memoryModes = map[specs.MemoryPolicyModeType]struct {
	number uint64
	nodes  string
}{
	specs.MpolDefault: {0, "none"}, specs.MpolPreferred: {1, "may"}, specs.MpolBind: {2, "must"}, specs.MpolInterleave: {3, "must"},
	specs.MpolLocal: {4, "none"}, specs.MpolPreferredMany: {5, "must"}, specs.MpolWeightedInterleave: {6, "must"},
}

// memoryFlags are the MPOL_F_* bits of set_mempolicy(2).
var memoryFlags = map[specs.MemoryPolicyFlagType]uint64{
	specs.MpolFNumaBalancing: 1 << 13, specs.MpolFRelativeNodes: 1 << 14, specs.MpolFStaticNodes: 1 << 15,
}

// memoryPolicy checks what the kernel checks of a policy, except for which nodes exist and
// which flags the modes of this kernel support.
func memoryPolicy(m *specs.LinuxMemoryPolicy) (*MemoryPolicy, error) {
	if m == nil {
		return nil, nil
	}
	const f = "linux.memoryPolicy"
	mode, ok := memoryModes[m.Mode]
	if !ok {
		return nil, invalid(f+".mode", string(m.Mode), "Linux has no such mode", "supported: "+strings.Join(names(memoryModes), ", "))
	}
	nodes, err := parseList(f+".nodes", m.Nodes, "nodes", maxNode)
	if err != nil {
		return nil, err
	}
	if mode.nodes == "none" && len(nodes) > 0 {
		return nil, invalid(f+".nodes", m.Nodes, fmt.Sprintf("%s takes no nodes", m.Mode), "remove them")
	}
	if mode.nodes == "must" && len(nodes) == 0 {
		return nil, invalid(f+".nodes", m.Nodes, fmt.Sprintf("%s needs nodes", m.Mode), `set some, for example "0"`)
	}
	out := &MemoryPolicy{Mode: mode.number, Nodes: nodes}
	for i, flag := range m.Flags {
		bit, ok := memoryFlags[flag]
		if !ok {
			return nil, invalid(item(f+".flags", i), string(flag), "Linux has no such flag", "supported: "+strings.Join(names(memoryFlags), ", "))
		}
		out.Mode |= bit
	}
	if both := memoryFlags[specs.MpolFRelativeNodes] | memoryFlags[specs.MpolFStaticNodes]; out.Mode&both == both {
		return nil, invalid(f+".flags", fmt.Sprint(m.Flags), "nodes are either relative or static", "use one of the two flags")
	}
	return out, nil
}

func names[K ~string, V any](m map[K]V) []string {
	var out []string
	for _, k := range sortedKeys(m) {
		out = append(out, string(k))
	}
	return out
}
