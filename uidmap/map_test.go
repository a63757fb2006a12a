// SPDX-License-Identifier: Apache-2.0

package uidmap_test

import (
	"testing"

	"sysbox/uidmap"
)

func TestMaps(t *testing.T) {
	m := uidmap.Map{{ContainerID: 0, HostID: 100000, Size: 10}, {ContainerID: 10, HostID: 4294967200, Size: 50}}
	for _, c := range []struct {
		id, host uint32
		ok       bool
	}{{0, 100000, true}, {9, 100009, true}, {10, 4294967200, true}, {59, 4294967249, true}, {60, 0, false}, {4294967295, 0, false}} {
		host, ok := m.ToHost(c.id)
		if host != c.host || ok != c.ok {
			t.Errorf("ToHost(%d) = %d, %v", c.id, host, ok)
		}
		if back, ok := m.ToContainer(host); c.ok && (back != c.id || !ok) {
			t.Errorf("ToContainer(%d) = %d, %v", host, back, ok)
		}
	}
	for _, bad := range []string{"", "0 1", "0 0 0", "0 4294967290 10", "0 1 5\n3 100 5", "0 1 5\n10 4 5", "-1 2 3"} {
		if m, err := uidmap.Parse(bad); err == nil {
			t.Errorf("Parse(%q) = %v", bad, m)
		}
	}
}
