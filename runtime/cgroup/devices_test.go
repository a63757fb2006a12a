// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func dev(allow bool, typ string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	d := specs.LinuxDeviceCgroup{Allow: allow, Type: typ, Access: access}
	if major >= 0 {
		d.Major = &major
	}
	if minor >= 0 {
		d.Minor = &minor
	}
	return d
}

func TestV1Devices(t *testing.T) {
	const defaults = "devices.allow=c *:* m;devices.allow=b *:* m;devices.allow=c 1:3 rwm"
	for _, c := range []struct {
		name string
		in   []specs.LinuxDeviceCgroup
		want string // its start, or "!" and part of the error
	}{
		{"none", nil, "devices.deny=a;" + defaults},
		{"privileged", []specs.LinuxDeviceCgroup{dev(false, "", -1, -1, "rwm"), dev(true, "", -1, -1, "rwm")}, "devices.allow=a"},
		{"one more", []specs.LinuxDeviceCgroup{dev(true, "c", 10, 229, "rw")}, "devices.deny=a;devices.allow=c 10:229 rwm;" + defaults},
		{"access adds up", []specs.LinuxDeviceCgroup{dev(true, "c", 9, 9, "r"), dev(true, "c", 9, 9, "w")}, "devices.deny=a;devices.allow=c 9:9 rwm;" + defaults},
		{"taken back", []specs.LinuxDeviceCgroup{dev(true, "c", 9, 9, "rw"), dev(false, "c", 9, -1, "w")}, "devices.deny=a;devices.allow=c 9:9 rm;" + defaults},
		{"part of a range", []specs.LinuxDeviceCgroup{dev(true, "c", 9, -1, "rw"), dev(false, "c", 9, 1, "w")}, `!"deny c 9:1 w" denies a part of "allow c 9:* rw"`},
		{"both kinds", []specs.LinuxDeviceCgroup{dev(true, "a", 9, 9, "r")}, "devices.deny=a;devices.allow=c 9:9 rm;devices.allow=b 9:9 rm"},
		{"all but one", []specs.LinuxDeviceCgroup{dev(true, "a", -1, -1, "rwm"), dev(false, "b", 8, 0, "w")}, "devices.allow=a;devices.deny=b 8:0 w"},
		{"bad type", []specs.LinuxDeviceCgroup{dev(true, "x", 1, 1, "r")}, `!linux.resources.devices[0]: unknown device type "x"`},
		{"bad access", []specs.LinuxDeviceCgroup{dev(true, "c", 1, 1, "rx")}, `!access "rx"`},
		{"bad number", []specs.LinuxDeviceCgroup{dev(true, "c", 1<<40, 1, "r")}, "!major 1099511627776 is out of range"},
	} {
		rules, err := deviceRules(c.in, false)
		var v v1Rules
		if err == nil {
			v, err = toV1(rules)
		}
		var got []string
		for _, w := range v.writes() {
			got = append(got, w[0]+"="+w[1])
		}
		if part, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %v, want one with %q", c.name, err, part)
			}
			continue
		}
		if s := strings.Join(got, ";"); err != nil || !strings.HasPrefix(s, c.want) {
			t.Errorf("%s: %v\n got %s\nwant %s", c.name, err, s, c.want)
		}
	}
}

func TestDefaultRules(t *testing.T) {
	fuse := func(system bool) (n int) {
		for _, r := range defaultRules(system) {
			if r.major == 10 && r.minor == 229 {
				n++
			}
			if r.major == 1 && r.minor == 11 {
				t.Error("kmsg is allowed")
			}
		}
		return n
	}
	if fuse(false) != 0 || fuse(true) != 1 {
		t.Error("fuse is for system containers alone")
	}
}

// Random rule lists mean the same to both versions, and to a reading of the
// spec that is as plain as can be. The kernel's reading is TestDevicesHold's.
func TestRulesMeanTheSame(t *testing.T) {
	devices := []device{{'a', -1, -1}, {'c', -1, -1}, {'c', 1, -1}, {'c', 1, 3}, {'b', 1, 3}}
	seed := uint32(1)
	random := func(n int) int { seed = seed*1664525 + 1013904223; return int(seed>>16) % n }
	compared := 0
	for range 3000 {
		rules := []rule{{device{'a', -1, -1}, false, accessAll}}
		for range random(5) {
			rules = append(rules, rule{devices[random(len(devices))], random(2) == 0, access(1 + random(7))})
		}
		v, err := toV1(rules)
		if err != nil {
			continue // v1 can't say it
		}
		for _, d := range []device{{'c', 1, 3}, {'b', 1, 3}, {'c', 1, 4}, {'c', 2, 3}, {'b', 8, 0}} {
			// The kernel asks for reading and writing together, and for mknod alone.
			for _, want := range []access{accessRead, accessWrite, accessRead | accessWrite, accessMknod} {
				compared++
				if a, b, c := plain(rules, d, want), v.permits(d, want), programAllows(rules, d, want); a != b || a != c {
					t.Fatalf("%v of %v: plain %v, v1 %v, bpf %v\n%v", want, d, a, b, c, rules)
				}
			}
		}
	}
	if compared < 10000 {
		t.Errorf("only %d comparisons", compared)
	}
}

// plain asks bit by bit for the last rule.
func plain(rules []rule, d device, want access) bool {
	for _, bit := range []access{accessRead, accessWrite, accessMknod} {
		ok := false
		for _, r := range rules {
			if want&bit != 0 && r.access&bit != 0 && d.within(r.device) {
				ok = r.allow
			}
		}
		if want&bit != 0 && !ok {
			return false
		}
	}
	return true
}

// permits is how the kernel reads a v1 list (security/device_cgroup.c): with
// "allow" as the default any exception with one of the bits forbids, else one
// exception must have all bits.
func (v v1Rules) permits(d device, want access) bool {
	for _, e := range v.exceptions {
		switch {
		case !d.within(e.device):
		case v.allow && e.access&want != 0:
			return false
		case !v.allow && e.access&want == want:
			return true
		}
	}
	return v.allow
}

// programAllows is the BPF program's algorithm on values.
func programAllows(rules []rule, d device, want access) bool {
	for i := len(rules) - 1; i >= 0; i-- {
		r := rules[i]
		switch {
		case !d.within(r.device):
		case r.allow:
			if want &^= r.access; want == 0 {
				return true
			}
		case want&r.access != 0:
			return false
		}
	}
	return false
}

func TestDeviceProgramIsSmall(t *testing.T) {
	rules, err := deviceRules(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(deviceProgram(rules)); n > 150 {
		t.Errorf("%d instructions", n)
	}
	if s := fmt.Sprint(rules[1]); s != "allow c *:* m" {
		t.Errorf("first default rule %q", s)
	}
}
