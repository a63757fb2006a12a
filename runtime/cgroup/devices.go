// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// access is a set of permissions for a device.
type access uint32

// The bits are those of BPF_DEVCG_ACC_* in linux/bpf.h.
const (
	accessMknod access = 1 << iota
	accessRead
	accessWrite
	accessAll = accessMknod | accessRead | accessWrite
)

func (a access) String() string {
	var s string
	for _, x := range []struct {
		bit access
		r   string
	}{{accessRead, "r"}, {accessWrite, "w"}, {accessMknod, "m"}} {
		if a&x.bit != 0 {
			s += x.r
		}
	}
	return s
}

// device is a set of devices: kind 'a' (both), 'b' or 'c'; -1 is any number.
type device struct {
	kind         byte
	major, minor int64
}

func (d device) String() string {
	n := func(i int64) string {
		if i < 0 {
			return "*"
		}
		return itoa(i)
	}
	return fmt.Sprintf("%c %s:%s", d.kind, n(d.major), n(d.minor))
}

// overlaps reports whether some device is in both sets.
func (d device) overlaps(o device) bool {
	return (d.kind == 'a' || o.kind == 'a' || d.kind == o.kind) &&
		(d.major < 0 || o.major < 0 || d.major == o.major) &&
		(d.minor < 0 || o.minor < 0 || d.minor == o.minor)
}

// rule is one entry of linux.resources.devices; a later entry wins.
type rule struct {
	device
	allow  bool
	access access
}

func (r rule) String() string {
	verb := "deny"
	if r.allow {
		verb = "allow"
	}
	return fmt.Sprintf("%s %s %s", verb, r.device, r.access)
}

// defaultRules are added after those of the spec: the devices that the OCI runtime
// spec promises every container (config-linux.md, "Default Devices"), ptys, net/tun
// for VPNs and rootless networks, and mknod, which does not allow opening the node. A
// system container gets fuse too, for overlays and desktop files: the driver ties a
// mount to the user namespace that made it.
func defaultRules(system bool) []rule {
	if system {
		return append(slices.Clone(commonRules), rule{device{'c', 10, 229}, true, accessAll}) // fuse
	}
	return commonRules
}

var commonRules = []rule{
	{device{'c', -1, -1}, true, accessMknod},
	{device{'b', -1, -1}, true, accessMknod},
	{device{'c', 1, 3}, true, accessAll},    // null
	{device{'c', 1, 5}, true, accessAll},    // zero
	{device{'c', 1, 7}, true, accessAll},    // full
	{device{'c', 1, 8}, true, accessAll},    // random
	{device{'c', 1, 9}, true, accessAll},    // urandom
	{device{'c', 5, 0}, true, accessAll},    // tty
	{device{'c', 5, 1}, true, accessAll},    // console
	{device{'c', 5, 2}, true, accessAll},    // ptmx
	{device{'c', 136, -1}, true, accessAll}, // pts/*
	{device{'c', 10, 200}, true, accessAll}, // net/tun
}

// deviceRules checks the rules of the spec and puts them between "deny all" and the
// defaults.
func deviceRules(list []specs.LinuxDeviceCgroup, system bool) ([]rule, error) {
	rules := []rule{{device{'a', -1, -1}, false, accessAll}}
	for i, d := range list {
		r, err := parseRule(d)
		if err != nil {
			return nil, fmt.Errorf("linux.resources.devices[%d]: %w", i, err)
		}
		rules = append(rules, r)
	}
	return append(rules, defaultRules(system)...), nil
}

func parseRule(d specs.LinuxDeviceCgroup) (rule, error) {
	r := rule{device: device{'a', -1, -1}, allow: d.Allow}
	switch d.Type {
	case "", "a":
	case "b", "c":
		r.kind = d.Type[0]
	case "u":
		r.kind = 'c'
	default:
		return r, fmt.Errorf(`unknown device type %q; use "a", "b" or "c"`, d.Type)
	}
	for _, n := range []struct {
		name string
		from *int64
		to   *int64
	}{{"major", d.Major, &r.major}, {"minor", d.Minor, &r.minor}} {
		if n.from == nil {
			continue
		}
		if *n.from < -1 || *n.from > math.MaxUint32 {
			return r, fmt.Errorf("%s %d is out of range; remove it to match any", n.name, *n.from)
		}
		*n.to = *n.from
	}
	for _, a := range d.Access {
		switch a {
		case 'r':
			r.access |= accessRead
		case 'w':
			r.access |= accessWrite
		case 'm':
			r.access |= accessMknod
		default:
			return r, fmt.Errorf("access %q must consist of the letters r, w and m", d.Access)
		}
	}
	if d.Access == "" {
		r.access = accessAll
	}
	return r, nil
}

// v1Rules is a device list in the form of the v1 controller: a default, and
// exceptions to it.
type v1Rules struct {
	allow      bool
	exceptions []rule
}

// toV1 converts rules to an equivalent v1 list. v1 cannot deny part of an exception
// (one device of an allowed range); that is an error, since the kernel would
// silently ignore it.
func toV1(rules []rule) (v1Rules, error) {
	var v v1Rules
	for _, r := range rules {
		if r.device == (device{'a', -1, -1}) && r.access == accessAll {
			v = v1Rules{allow: r.allow}
			continue
		}
		// v1 has no 'a' with numbers or partial access.
		kinds := []byte{r.kind}
		if r.kind == 'a' {
			kinds = []byte{'c', 'b'}
		}
		for _, k := range kinds {
			r.kind = k
			if err := v.add(r); err != nil {
				return v, err
			}
		}
	}
	return v, nil
}

func (v *v1Rules) add(r rule) error {
	if r.allow != v.allow {
		if r.allow {
			v.widen(&r)
		}
		for i := range v.exceptions {
			if v.exceptions[i].device == r.device {
				v.exceptions[i].access |= r.access
				return nil
			}
		}
		v.exceptions = append(v.exceptions, r)
		return nil
	}
	kept := v.exceptions[:0]
	for _, e := range v.exceptions {
		switch {
		case e.access&r.access == 0 || !e.overlaps(r.device):
		case e.within(r.device):
			e.access &^= r.access
		default:
			return fmt.Errorf("linux.resources.devices: %q denies a part of %q, which cgroup v1 cannot express; list the devices of the range one by one", r, e)
		}
		if e.access != 0 {
			kept = append(kept, e)
		}
	}
	v.exceptions = kept
	return nil
}

// widen merges the permissions of nested exceptions: the kernel looks for one exception that
// grants the whole request, and does not combine several.
func (v *v1Rules) widen(r *rule) {
	for _, e := range v.exceptions {
		if r.within(e.device) {
			r.access |= e.access
		}
	}
	for i := range v.exceptions {
		if e := &v.exceptions[i]; e.within(r.device) {
			e.access |= r.access
		}
	}
}

// within reports whether d is a subset of o.
func (d device) within(o device) bool {
	return (o.kind == 'a' || d.kind == o.kind) && (o.major < 0 || d.major == o.major) && (o.minor < 0 || d.minor == o.minor)
}

// writes lists the (file, value) pairs that give a v1 directory this list.
func (v v1Rules) writes() [][2]string {
	reset, except := "devices.deny", "devices.allow"
	if v.allow {
		reset, except = except, reset
	}
	out := [][2]string{{reset, "a"}}
	for _, e := range v.exceptions {
		out = append(out, [2]string{except, strings.Join([]string{e.device.String(), e.access.String()}, " ")})
	}
	return out
}
