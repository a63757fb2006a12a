// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// TestRefusedByHost: what the kernel refuses to the shim itself is told by the spec's field.
func TestRefusedByHost(t *testing.T) {
	for _, c := range []struct {
		step program.Call
		want []string
	}{
		{program.Call{Field: FieldOOMScoreAdj, Value: "-500"}, []string{`process.oomScoreAdj is "-500"`, "CAP_SYS_RESOURCE"}},
		{program.Call{Field: FieldRlimits, Name: "raise the hard limit of RLIMIT_NOFILE to 3000000"}, []string{"process.rlimits", "RLIMIT_NOFILE to 3000000", "fs.nr_open"}},
		{program.Call{Field: FieldScheduler}, []string{"process.scheduler", "CAP_SYS_NICE"}},
		{program.Call{Field: FieldIOPriority}, []string{"process.ioPriority", "CAP_SYS_NICE"}},
		{program.Call{Field: FieldMemoryPolicy}, []string{"linux.memoryPolicy", "nodes that the host has"}},
	} {
		c.step.Nr = unix.SYS_WRITE
		err := refusedByHost(&program.StepError{Step: c.step, Errno: unix.EACCES})
		if !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: %v has lost the kernel's answer", c.step.Field, err)
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) || strings.Contains(err.Error(), "write(") {
				t.Errorf("%s: %v; want %q", c.step.Field, err, w)
			}
		}
	}
}
