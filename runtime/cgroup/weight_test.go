// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"testing"

	"github.com/containerd/cgroups/v3/cgroup2"
)

// TestWeightAsUpstream: shares become the weight that others make of them.
func TestWeightAsUpstream(t *testing.T) {
	for shares := uint64(1); shares <= 1<<19; shares += 1 + shares/97 {
		if got, want := cpuWeight(shares), cgroup2.ConvertCPUSharesToCgroupV2Value(shares); got != want {
			t.Errorf("weight of %d shares is %d, want %d", shares, got, want)
		}
	}
}
