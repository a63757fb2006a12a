// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestBlockDevices: a spec may have the block devices that the administrator names, by
// number, and no others with them.
func TestBlockDevices(t *testing.T) {
	n := func(n int64) *int64 { return &n }
	rule := func(typ string, major, minor *int64) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: true, Type: typ, Major: major, Minor: minor, Access: "rwm"}
	}
	blocks := map[DeviceNumber]bool{{7, 3}: true}
	for _, c := range []struct {
		name    string
		device  [2]int64
		rule    specs.LinuxDeviceCgroup
		blocks  map[DeviceNumber]bool
		refused string // the field
	}{
		{"it", [2]int64{7, 3}, rule("b", n(7), n(3)), blocks, ""},
		{"it, of nobody", [2]int64{7, 3}, rule("b", n(7), n(3)), nil, "linux.devices[0]"},
		{"its neighbour", [2]int64{7, 4}, rule("b", n(7), n(3)), blocks, "linux.devices[0]"},
		{"a rule for its neighbour", [2]int64{7, 3}, rule("b", n(7), n(4)), blocks, "linux.resources.devices[0]"},
		{"a rule for its whole kind", [2]int64{7, 3}, rule("b", n(7), nil), blocks, "linux.resources.devices[0]"},
		{"a rule for all disks", [2]int64{7, 3}, rule("b", nil, nil), blocks, "linux.resources.devices[0]"},
		{"a rule for that number of any kind", [2]int64{7, 3}, rule("a", n(7), n(3)), blocks, "linux.resources.devices[0]"},
		{"a rule for the characters of that number", [2]int64{7, 3}, rule("c", n(7), n(3)), blocks, "linux.resources.devices[0]"},
	} {
		in := testInput(t, "minimal")
		in.BlockDevices = c.blocks
		in.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/disk", Type: "b", Major: c.device[0], Minor: c.device[1]}}
		in.Spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{c.rule}}
		p, err := Make(in)
		var r *ValidationError
		switch errors.As(err, &r); {
		case c.refused == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.refused == "" && (!slices.ContainsFunc(p.Devices, func(d Device) bool { return d.Type == "b" && d.Major == 7 && d.Minor == 3 }) || len(p.Cgroup.Resources.Devices) < 2):
			t.Errorf("%s: it is not in the plan", c.name)
		case c.refused != "" && (r == nil || r.Field != c.refused):
			t.Errorf("%s: %v, want a refusal of %s", c.name, err, c.refused)
		}
	}
}
