// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultDevices are in every container (runtime-spec 1.3, config-linux.md,
// "Default Devices"; the links and /dev/console are made with /dev).
var defaultDevices = []Device{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, Mode: 0o666},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5, Mode: 0o666},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7, Mode: 0o666},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8, Mode: 0o666},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9, Mode: 0o666},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0, Mode: 0o666},
}

// dangerous are character devices that give access to the host itself, past all
// namespaces. Numbers from Documentation/admin-guide/devices.txt.
var dangerous = []struct {
	major, first, last int64
	what               string
}{
	{1, 1, 1, "the host's memory"},
	{1, 2, 2, "the kernel's memory"},
	{1, 4, 4, "the host's I/O ports"},
	{1, 11, 11, "the host's kernel log"},
	{1, 12, 12, "the memory of a crashed kernel"},
	{4, 0, 63, "the host's consoles"},
	{7, 0, maxMinor, "the screens of the host's consoles"},
	{10, 130, 130, "the host's watchdog"},
	{10, 144, 144, "the host's NVRAM"},
	{10, 231, 231, "the host's hibernation"},
	{10, 234, 234, "the host's btrfs volumes"},
	{10, 235, 235, "the host's automounter"},
	{10, 236, 236, "the host's device mapper"},
	{10, 237, 237, "the host's loop devices"},
	{21, 0, maxMinor, "the host's disks as SCSI devices"},
	{202, 0, maxMinor, "the host's CPU registers"},
}

// Linux has 12 bits for a major and 20 for a minor number.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

const devicesHint = "remove it, since containers never get this device; if --privileged added it, drop --privileged (a system container has all capabilities in its own user namespace; in CRI set privileged_without_host_devices)"

const blockHint = "remove it or add it to block_devices in the configuration; if --privileged added it, drop --privileged"

// DeviceNumber is a block device's major and minor number.
type DeviceNumber [2]int64

// dangerOf says what part of the host a device gives access to, or "", and the hint. A minor
// below 0 stands for all minors. Block devices in blocks are allowed.
func dangerOf(typ string, major, minor int64, blocks map[DeviceNumber]bool) (what, hint string) {
	if typ == "b" {
		if blocks[DeviceNumber{major, minor}] {
			return "", ""
		}
		return "a disk of the host", blockHint
	}
	for _, d := range dangerous {
		if d.major == major && (minor < 0 || minor >= d.first && minor <= d.last) {
			return d.what, devicesHint
		}
	}
	return "", ""
}

func makeDevices(in Input, p *Plan) error {
	l := in.Spec.Linux
	p.Devices = slices.Clone(defaultDevices)
	for i, d := range l.Devices {
		dev, err := specDevice(item("linux.devices", i), d, in.BlockDevices)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(p.Devices, func(x Device) bool { return x.Path == dev.Path })
		if at < 0 {
			p.Devices = append(p.Devices, dev)
			continue
		}
		if have := p.Devices[at]; have.Type != dev.Type || have.Major != dev.Major || have.Minor != dev.Minor {
			return invalid(item("linux.devices", i), dev.Path, fmt.Sprintf("it is %s %d:%d here but %s %d:%d elsewhere in the plan", dev.Type, dev.Major, dev.Minor, have.Type, have.Major, have.Minor), "use one device for each path")
		}
		p.Devices[at] = dev // the spec sets its mode and owner
	}
	return nil
}

// reserved are paths in /dev that the spec may not use for devices.
var reserved = []string{"/dev/ptmx", "/dev/console", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/pts", "/dev/shm", "/dev/mqueue", hidden}

// hidden is where the mount tree keeps mounts that the container must not see.
const hidden = "/dev/.sysbox"

func specDevice(field string, d specs.LinuxDevice, blocks map[DeviceNumber]bool) (Device, error) {
	name := d.Path
	bad := func(reason, hint string) (Device, error) {
		return Device{}, invalid(field, fmt.Sprintf("%s (%s %d:%d)", name, d.Type, d.Major, d.Minor), reason, hint)
	}
	if err := checkString(field+".path", d.Path, maxPath); err != nil {
		return Device{}, err
	}
	if !path.IsAbs(d.Path) || path.Clean(d.Path) == "/" {
		return bad("its path must be the absolute path of a file", "use for example /dev/fuse")
	}
	out := Device{Path: path.Clean(d.Path), Type: d.Type, Mode: 0o666}
	for _, t := range reserved {
		if out.Path == t || strings.HasPrefix(out.Path, t+"/") {
			if out.Path == "/dev/ptmx" && d.Type == "c" && d.Major == 5 && d.Minor == 2 || out.Path == "/dev/console" && d.Type == "c" && d.Major == 5 && d.Minor == 1 {
				return bad("the container already has its own", "remove it")
			}
			return bad("the runtime uses this path", "choose another path")
		}
	}
	if underAny(out.Path, "/proc", "/sys") {
		return bad("devices cannot be created in "+out.Path[:4], "choose a path in /dev")
	}
	switch d.Type {
	case "u", "c":
		out.Type = "c"
	case "b":
	case "p":
		if d.Major != 0 || d.Minor != 0 {
			return bad("a FIFO has no device number", "remove it")
		}
	default:
		return bad("its type is unknown", "supported: c (or u), b and p")
	}
	if d.Major < 0 || d.Major > maxMajor || d.Minor < 0 || d.Minor > maxMinor {
		return bad("the largest device number of Linux is 4095:1048575", "")
	}
	if out.Type != "p" {
		if what, hint := dangerOf(out.Type, d.Major, d.Minor, blocks); what != "" {
			return bad("it is "+what, hint)
		}
	}
	out.Major, out.Minor = uint32(d.Major), uint32(d.Minor)
	if d.FileMode != nil {
		if *d.FileMode&^(os.ModePerm|0o7777|os.ModeDevice|os.ModeCharDevice|os.ModeNamedPipe|0o170000) != 0 {
			return bad(fmt.Sprintf("its fileMode %#o has more than permission bits", uint32(*d.FileMode)), "use permission bits only")
		}
		out.Mode = uint32(*d.FileMode & 0o777)
	}
	for _, x := range []struct {
		from *uint32
		to   *uint32
	}{{d.UID, &out.UID}, {d.GID, &out.GID}} {
		if x.from == nil {
			continue
		}
		if *x.from == noID {
			return bad("its owner is not a valid id", "use an id below 4294967295")
		}
		*x.to = *x.from
	}
	return out, nil
}

// CheckDeviceRules checks device rules, such as those of an update of a container's limits. It
// rejects rules that allow access to the host, except for the block devices in blocks (see
// [Input]), and fills in fields that a rule leaves empty.
func CheckDeviceRules(list []specs.LinuxDeviceCgroup, blocks map[DeviceNumber]bool) error {
	_, err := effectiveRules(list, blocks)
	return err
}

// effectiveRules checks the device rules of the spec and drops those that have no
// effect: all rules before one that denies everything.
func effectiveRules(list []specs.LinuxDeviceCgroup, blocks map[DeviceNumber]bool) ([]specs.LinuxDeviceCgroup, error) {
	start := 0
	for i := range list {
		d := &list[i]
		field := item("linux.resources.devices", i)
		d.Type, d.Access = cmp.Or(d.Type, "a"), cmp.Or(d.Access, "rwm") // the defaults of the v1 interface of the kernel
		if d.Type != "a" && d.Type != "b" && d.Type != "c" {
			return nil, invalid(field+".type", d.Type, "unknown value", "supported: a, b and c")
		}
		if strings.Trim(d.Access, "rwm") != "" {
			return nil, invalid(field+".access", d.Access, "it must consist of the letters r, w and m", "")
		}
		everything := d.Type == "a" && wild(d.Major) && wild(d.Minor)
		if everything && !d.Allow && strings.Contains(d.Access, "r") && strings.Contains(d.Access, "w") {
			start = i + 1
		}
	}
	for i, d := range list[start:] {
		if !d.Allow || strings.Trim(d.Access, "m") == "" {
			continue // the kernel already denies mknod of a device in a user namespace
		}
		if what, hint := ruleDanger(d, blocks); what != "" {
			value := fmt.Sprintf("allow %s %s:%s %s", d.Type, number(d.Major), number(d.Minor), d.Access)
			return nil, invalid(item("linux.resources.devices", start+i), value, "it allows "+what, hint)
		}
	}
	return list[start:], nil
}

// deviceRules completes the device rules of the spec: they deny all that is not
// allowed explicitly, and allow what the plan adds. A device of the spec gets exactly
// the rules of the spec.
func deviceRules(in Input, r *specs.LinuxResources, p *Plan) error {
	l := in.Spec.Linux
	given, err := effectiveRules(r.Devices, in.BlockDevices)
	if err != nil {
		return err
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Type: "a", Access: "rwm"}}
	rules = append(rules, given...)
	for _, d := range p.Devices {
		ofSpec := slices.ContainsFunc(l.Devices, func(x specs.LinuxDevice) bool { return path.Clean(x.Path) == d.Path })
		if !ofSpec || slices.ContainsFunc(defaultDevices, func(x Device) bool { return x.Path == d.Path }) {
			rules = append(rules, allow(int64(d.Major), int64(d.Minor)))
		}
	}
	// /dev/console and /dev/ptmx lead to these as links and binds; majors from 136
	// on are the terminals of devpts.
	rules = append(rules, allow(5, 1), allow(5, 2), allow(136, -1))
	r.Devices = rules
	return nil
}

// ruleDanger says what part of the host an allowing rule gives access to, or "", and the hint.
func ruleDanger(d specs.LinuxDeviceCgroup, blocks map[DeviceNumber]bool) (what, hint string) {
	switch {
	case d.Type == "b" && !wild(d.Major) && !wild(d.Minor):
		return dangerOf("b", *d.Major, *d.Minor, blocks)
	case d.Type == "b" || d.Type == "a" && !wild(d.Major):
		return dangerOf("b", -1, -1, nil)
	case wild(d.Major):
		return "every device, the host's memory included", devicesHint
	case wild(d.Minor):
		return dangerOf("c", *d.Major, -1, nil)
	}
	return dangerOf("c", *d.Major, *d.Minor, nil)
}

func allow(major, minor int64) specs.LinuxDeviceCgroup {
	r := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Access: "rwm"}
	if minor >= 0 {
		r.Minor = &minor
	}
	return r
}

func wild(n *int64) bool { return n == nil || *n < 0 }

func number(n *int64) string {
	if wild(n) {
		return "*"
	}
	return fmt.Sprint(*n)
}
