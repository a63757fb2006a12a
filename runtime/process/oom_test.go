// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/testcontainer"
)

// TestOOMFloor: with a memory limit processes lower their oom_score_adj to -998 and no further,
// without one not below the spec's value; init's and an exec's own value is the spec's.
func TestOOMFloor(t *testing.T) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&h, &caps[0]); err != nil {
		t.Fatal(err)
	}
	if caps[0].Effective&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		t.Skip("needs CAP_SYS_RESOURCE, as a virtual machine's root has it")
	}
	const script = `f=/proc/self/oom_score_adj; cat $f; for n in -998 -999; do (echo $n >$f && sh -c "cat $f") 2>/dev/null || echo no; done`
	for _, c := range []struct {
		limit int64
		want  string
	}{
		{64 << 20, "100\n-998\nno\n"},
		{0, "100\nno\nno\n"},
	} {
		change := func(s *specs.Spec) {
			n := 100
			s.Process.OOMScoreAdj = &n
			if c.limit > 0 {
				s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &c.limit}}
			}
		}
		if out, _ := testcontainer.Run(t, change, "sh", "-c", script); out != c.want {
			t.Errorf("init, limit %d: %q, want %q", c.limit, out, c.want)
		}
		n := 100
		process := testcontainer.Command("sh", "-c", script)
		process.OOMScoreAdj = &n
		p, text := testcontainer.Started(t, change).Executed(t, process)
		testcontainer.Wait(t, p)
		if out := text(); out != c.want {
			t.Errorf("exec, limit %d: %q, want %q", c.limit, out, c.want)
		}
	}
}
