// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"fmt"
	"os"
	"strings"

	"sysbox/runtime/plan"
)

// WriteTimeOffsets writes the clocks' offsets (time_namespaces(7)) of the new time namespace
// for the children of proc, "/proc/PID", in which no process has been yet.
func WriteTimeOffsets(proc string, ns plan.Namespaces) error {
	var b strings.Builder
	for _, clock := range []string{"monotonic", "boottime"} {
		if o, ok := ns.TimeOffsets[clock]; ok {
			fmt.Fprintf(&b, "%s %d %d\n", clock, o.Secs, o.Nanosecs)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	if err := os.WriteFile(proc+"/timens_offsets", []byte(b.String()), 0); err != nil {
		return fmt.Errorf("linux.timeOffsets: %w", err)
	}
	return nil
}
