// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"fmt"
	"os"
	"strings"

	"sysbox/runtime/plan"
	"sysbox/uidmap"
)

// WriteMaps writes the id maps of a new user namespace, of which proc, "/proc/PID", is a process.
func WriteMaps(proc string, ids plan.IDs) error {
	for _, m := range []struct {
		file string
		ids  uidmap.Map
	}{{"/uid_map", ids.UID}, {"/gid_map", ids.GID}} {
		if err := os.WriteFile(proc+m.file, []byte(m.ids.String()), 0); err != nil {
			return fmt.Errorf("map ids (%s): %w", strings.ReplaceAll(strings.TrimSpace(m.ids.String()), "\n", ", "), err)
		}
	}
	return nil
}
