// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// NetDevice is a network device of the host that is moved into the container.
type NetDevice struct {
	// Host is its name on the host.
	Host string
	// Name is its name in the container; the kernel replaces one %d with a free number.
	Name string
}

// netDevices checks the names of linux.netDevices as the kernel does.
func netDevices(given map[string]specs.LinuxNetDevice) ([]NetDevice, error) {
	const field = "linux.netDevices"
	var out []NetDevice
	taken := map[string]string{}
	for _, host := range sortedKeys(given) {
		d := NetDevice{Host: host, Name: given[host].Name}
		if reason := badDeviceName(host); reason != "" {
			return nil, invalid(field, host, reason, `use the name of a host device as shown by "ip link"`)
		}
		if d.Name == "" {
			d.Name = host
		}
		named := field + "." + host + ".name"
		plain := strings.Replace(d.Name, "%d", "00", 1) // of the same length
		if reason := badDeviceName(plain); reason != "" {
			return nil, invalid(named, d.Name, reason, `use a name such as "eth1", or "eth%d" for a free number`)
		}
		if other, twice := taken[d.Name]; twice && plain == d.Name {
			return nil, invalid(named, d.Name, other+" gets the same name", "use a different name for each device")
		}
		taken[d.Name] = host
		out = append(out, d)
	}
	return out, nil
}

// badDeviceName says why the kernel rejects a name (dev_valid_name, net/core/dev.c), or "".
// A percent sign marks templates.
func badDeviceName(name string) string {
	const most = 15 // IFNAMSIZ without the final NUL
	switch {
	case name == "" || name == "." || name == "..":
		return "it is not the name of a network device"
	case len(name) > most:
		return "the name of a network device has at most 15 bytes"
	case strings.ContainsAny(name, "/:% \t\n\v\f\r\x00"):
		return "the name of a network device cannot have a slash, colon, percent sign, space or NUL"
	}
	return ""
}
