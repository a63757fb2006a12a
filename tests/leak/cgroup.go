// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"io/fs"
	"path/filepath"
	"strings"

	"sysbox/runtime/sys"
)

// cgroups are those below the roots that this mount namespace has, but for the roots.
func cgroups(o Options) ([]string, error) {
	var out []string
	for m, err := range sys.MountsOf("/proc/self/mountinfo") {
		if err != nil {
			return nil, err
		}
		if m.Type != "cgroup" && m.Type != "cgroup2" {
			continue
		}
		err = filepath.WalkDir(m.Point, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil // removed while we look
			}
			if p != m.Point && (o.Service == "" || !strings.HasPrefix(d.Name(), o.Service)) {
				out = append(out, p)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
