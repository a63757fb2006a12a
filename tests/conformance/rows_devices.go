// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// device is 240:minor, of a number that is for experiments: where the rules let it be
// opened, there is no driver (ENXIO).
func device(at, kind string, minor int64) specs.LinuxDevice {
	d := specs.LinuxDevice{Path: at, Type: kind, Major: 240, Minor: minor}
	if kind == "p" {
		d.Major, d.Minor = 0, 0
	}
	return d
}

func addDevice(d specs.LinuxDevice) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.Devices = append(s.Linux.Devices, d) }
}

// deviceRows are linux.devices, linux.resources.devices and the default devices.
func deviceRows() []Row {
	const f = "linux.devices[]."
	var rows []Row
	row := func(field, kase string, d specs.LinuxDevice, want string) {
		rows = append(rows, Row{Field: f + field, Case: kase, Set: addDevice(d), Box: "ordinary:devices", Ask: "stat " + d.Path, Want: want})
	}
	full := device("/dev/full-example", "c", 9)
	full.FileMode, full.UID, full.GID = ptr(os.FileMode(0o640)), ptr(uint32(5)), ptr(uint32(6))
	row("path", "in /dev", device("/dev/example", "c", 1), "c 240:1 0666 0:0")
	row("path", "in a folder of /dev", device("/dev/folder/example", "c", 1), "c 240:1 0666 0:0")
	row("path", "elsewhere", device("/etc/example", "c", 1), "c 240:1 0666 0:0")
	row("type", "c", device("/dev/c", "c", 1), "c 240:1 0666 0:0")
	row("type", "u", device("/dev/u", "u", 1), "c 240:1 0666 0:0")
	row("type", "p", device("/dev/p", "p", 0), "p 0666 0:0")
	for _, field := range []string{"major", "minor", "fileMode", "uid", "gid"} {
		d := full
		d.Path += field
		row(field, "", d, "c 240:9 0640 5:6")
	}
	refused := func(field, kase string, d specs.LinuxDevice, message string) {
		rows = append(rows, Row{Field: f + field, Case: kase, Set: addDevice(d), Refused: message})
	}
	const out = "remove it, since containers never get this device; if --privileged added it, drop --privileged (a system container has all capabilities in its own user namespace; in CRI set privileged_without_host_devices)"
	const outBlock = "remove it or add it to block_devices in the configuration; if --privileged added it, drop --privileged"
	refused("type", "b", specs.LinuxDevice{Path: "/dev/sda", Type: "b", Major: 8}, `linux.devices[0] is "/dev/sda (b 8:0)": it is a disk of the host; `+outBlock)
	refused("type", "unknown", device("/dev/x", "x", 1), `linux.devices[0] is "/dev/x (x 240:1)": its type is unknown; supported: c (or u), b and p`)
	refused("major", "the host's memory", specs.LinuxDevice{Path: "/dev/mem", Type: "c", Major: 1, Minor: 1}, `linux.devices[0] is "/dev/mem (c 1:1)": it is the host's memory; `+out)
	refused("major", "beyond the kernel's", specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 4096}, `linux.devices[0] is "/dev/x (c 4096:0)": the largest device number of Linux is 4095:1048575`)
	refused("minor", "of a FIFO", specs.LinuxDevice{Path: "/dev/x", Type: "p", Minor: 1}, `linux.devices[0] is "/dev/x (p 0:1)": a FIFO has no device number; remove it`)
	refused("path", "/dev/ptmx", specs.LinuxDevice{Path: "/dev/ptmx", Type: "c", Major: 5, Minor: 2}, `linux.devices[0] is "/dev/ptmx (c 5:2)": the container already has its own; remove it`)
	refused("path", "relative", device("x", "c", 1), `linux.devices[0] is "x (c 240:1)": its path must be the absolute path of a file; use for example /dev/fuse`)
	bad := device("/dev/x", "c", 1)
	bad.FileMode = ptr(os.ModeSymlink | 0o666)
	refused("fileMode", "more than permissions", bad, `linux.devices[0] is "/dev/x (c 240:1)": its fileMode 01000000666 has more than permission bits; use permission bits only`)
	bad = device("/dev/x", "c", 1)
	bad.UID = ptr(uint32(1<<32 - 1))
	refused("uid", "4294967295", bad, `linux.devices[0] is "/dev/x (c 240:1)": its owner is not a valid id; use an id below 4294967295`)

	// Rules: every device below is there, and what opening it answers tells the rule.
	rule := func(r specs.LinuxDeviceCgroup) func(*specs.Spec) {
		return func(s *specs.Spec) {
			for i := range 8 {
				addDevice(device("/dev/rule"+itoa(i), "c", int64(i)))(s)
			}
			s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, r}}
		}
	}
	c := func(allow bool, minor *int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: allow, Type: "c", Major: ptr(int64(240)), Minor: minor, Access: access}
	}
	const g = "linux.resources.devices[]."
	see := func(field, kase string, r specs.LinuxDeviceCgroup, ask, want string) {
		rows = append(rows, Row{Field: g + field, Case: kase, Set: rule(r), Box: "ordinary:rule-" + field + kase, Ask: ask, Want: want})
	}
	see("allow", "true", c(true, ptr(int64(1)), "rwm"), "open rw /dev/rule1", "ENXIO")
	see("allow", "false", c(false, ptr(int64(1)), "rwm"), "open rw /dev/rule1", "EPERM")
	see("type", "c", c(true, nil, "rwm"), "open rw /dev/rule2", "ENXIO")
	see("major", "", c(true, nil, ""), "open rw /dev/rule2", "ENXIO")
	see("major", "another", specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(241)), Access: "rw"}, "open rw /dev/rule2", "EPERM")
	see("minor", "", c(true, ptr(int64(3)), "rw"), "open rw /dev/rule3", "ENXIO")
	see("minor", "another", c(true, ptr(int64(3)), "rw"), "open rw /dev/rule4", "EPERM")
	see("access", "r, read", c(true, ptr(int64(3)), "r"), "open r /dev/rule3", "ENXIO")
	see("access", "r, written", c(true, ptr(int64(3)), "r"), "open w /dev/rule3", "EPERM")
	see("access", "w, read", c(true, ptr(int64(3)), "w"), "open r /dev/rule3", "EPERM")
	see("access", "w, written", c(true, ptr(int64(3)), "w"), "open w /dev/rule3", "ENXIO")
	see("allow", "of a default device", c(true, ptr(int64(3)), "w"), "open rw /dev/null", "works")
	no := func(field, kase string, r specs.LinuxDeviceCgroup, message string) {
		rows = append(rows, Row{Field: g + field, Case: kase, Set: rule(r), Refused: message})
	}
	no("allow", "everything", specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}, `linux.resources.devices[1] is "allow a *:* rwm": it allows every device, the host's memory included; `+out)
	no("type", "b", specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: ptr(int64(8)), Access: "r"}, `linux.resources.devices[1] is "allow b 8:* r": it allows a disk of the host; `+outBlock)
	no("type", "unknown", specs.LinuxDeviceCgroup{Type: "x"}, `linux.resources.devices[1].type is "x": unknown value; supported: a, b and c`)
	no("access", "unknown", c(true, nil, "x"), `linux.resources.devices[1].access is "x": it must consist of the letters r, w and m`)
	return rows
}
