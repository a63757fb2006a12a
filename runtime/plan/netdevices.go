package plan

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// NetDevice is a network device of the host's that becomes the container's.
type NetDevice struct {
	// Host is its name on the host.
	Host string
	// Name is the one in the container; one %d in it is a number that the kernel chooses.
	Name string
}

// netDevices checks linux.netDevices: the names, as the kernel does.
func netDevices(given map[string]specs.LinuxNetDevice) ([]NetDevice, error) {
	const field = "linux.netDevices"
	var out []NetDevice
	taken := map[string]string{}
	for _, host := range sortedKeys(given) {
		d := NetDevice{Host: host, Name: given[host].Name}
		if why := badDeviceName(host); why != "" {
			return nil, refuse(field, host, why, `give the name of a device of the host's, as "ip link" shows it`)
		}
		if d.Name == "" {
			d.Name = host
		}
		named := field + "." + host + ".name"
		plain := strings.Replace(d.Name, "%d", "00", 1) // of the same length
		if why := badDeviceName(plain); why != "" {
			return nil, refuse(named, d.Name, why, `give a name such as "eth1", or "eth%d" for a free number`)
		}
		if other, twice := taken[d.Name]; twice && plain == d.Name {
			return nil, refuse(named, d.Name, "it is also the name that "+other+" gets", "give each device a name of its own")
		}
		taken[d.Name] = host
		out = append(out, d)
	}
	return out, nil
}

// badDeviceName says what the kernel has against a name (dev_valid_name, net/core/dev.c);
// "" if nothing. A percent sign is for templates.
func badDeviceName(name string) string {
	const most = 15 // IFNAMSIZ less the ending NUL
	switch {
	case name == "" || name == "." || name == "..":
		return "it is no name of a network device"
	case len(name) > most:
		return "a network device's name has at most 15 bytes"
	case strings.ContainsAny(name, "/:% \t\n\v\f\r\x00"):
		return "a network device's name has no slash, colon, percent sign, space or NUL"
	}
	return ""
}
