// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
)

// stripVariables removes SYSBOX_* from an environment and passes each to seen.
func stripVariables(env []string, seen func(name, value string)) ([]string, error) {
	var rest []string
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "SYSBOX_") {
			rest = append(rest, e)
			continue
		}
		if settingBy(func(s *setting) bool { return s.variable == name }) == nil {
			var names []string
			for _, s := range settingsTable {
				if s.variable != "" {
					names = append(names, s.variable)
				}
			}
			return nil, invalid("process.env", e, "unknown variable", "supported: "+strings.Join(names, ", "))
		}
		seen(name, value)
	}
	return rest, nil
}
