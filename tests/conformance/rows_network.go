// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hostDevice is the name of one of the network devices that the test makes on the host, "a"
// to "d".
func hostDevice(letter string) string { return fmt.Sprintf("cf%d%s", os.Getpid(), letter) }

// networkRows are linux.netDevices.
func networkRows() []Row {
	const f, named = "linux.netDevices", "linux.netDevices{}.name"
	device := func(host, name string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			if s.Linux.NetDevices == nil {
				s.Linux.NetDevices = map[string]specs.LinuxNetDevice{}
			}
			s.Linux.NetDevices[host] = specs.LinuxNetDevice{Name: name}
		}
	}
	a, d := hostDevice("a"), hostDevice("d")
	const box, short = "ordinary:network", `: the name of a network device has at most 15 bytes; use `
	return []Row{
		{Field: f, Case: "with its addresses", Box: box, Set: device(a, ""), Ask: "device " + a, Want: "up 10.99.1.1/24"},
		{Field: f, Case: "not there", Set: device("nosuch0", ""), Refused: `linux.netDevices is "nosuch0": the host has no such network device; use a name as shown by "ip link"`},
		{Field: f, Case: "lo", Set: device("lo", "lo1"), Refused: `linux.netDevices is "lo": it cannot be moved to another network namespace: invalid argument; use another device (lo, for example, always stays)`},
		{Field: f, Case: "no name", Set: device("a/b", ""), Refused: `linux.netDevices is "a/b": the name of a network device cannot have a slash, colon, percent sign, space or NUL; use the name of a host device as shown by "ip link"`},
		{Field: named, Case: "another", Box: box, Set: device(hostDevice("b"), "net0"), Ask: "device net0", Want: "up 10.99.2.1/24"},
		{Field: named, Case: "eth%d", Box: box, Set: device(hostDevice("c"), "eth%d"), Ask: "device eth0", Want: "up 10.99.3.1/24"},
		{Field: named, Case: "taken", Set: device(d, "lo"), Refused: `linux.netDevices.` + d + `.name is "lo": the network namespace of the container already has a device of this name; use another name, or one with %d for a free number`},
		{Field: named, Case: "too long", Set: device(a, "sixteen-bytes-16"), Refused: `linux.netDevices.` + a + `.name is "sixteen-bytes-16"` + short + `a name such as "eth1", or "eth%d" for a free number`},
		{Field: named, Case: "twice", Set: func(s *specs.Spec) {
			device(a, "net0")(s)
			device(hostDevice("b"), "net0")(s)
		}, Refused: `linux.netDevices.` + hostDevice("b") + `.name is "net0": ` + a + ` gets the same name; use a different name for each device`},
	}
}
