// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestCapabilities: what a process gets, by the kind of container and user.
func TestCapabilities(t *testing.T) {
	const chown, kill, bind = 1 << 0, 1 << 5, 1 << 10
	all := allCaps(testFacts().CapLast)
	some := &specs.LinuxCapabilities{
		Bounding: []string{"CAP_CHOWN", "CAP_KILL"}, Permitted: []string{"CAP_CHOWN", "CAP_KILL"}, Effective: []string{"CAP_KILL"},
		Inheritable: []string{"CAP_KILL"}, Ambient: []string{"CAP_KILL"},
	}
	for _, c := range []struct {
		name     string
		plan     Plan
		uid      uint32
		caps     *specs.LinuxCapabilities
		want     Capabilities
		warnings int
	}{
		{"root of a system container", Plan{System: true}, 0, some, Capabilities{all, all, kill, all, kill}, 0},
		{"root without a list", Plan{System: true}, 0, nil, Capabilities{all, all, 0, all, 0}, 0},
		{"user of a system container", Plan{System: true}, 1000, some, Capabilities{all, kill, kill, chown | kill, kill}, 0},
		{"honoured", Plan{System: true, HonorCaps: true}, 0, some, Capabilities{chown | kill, kill, kill, chown | kill, kill}, 0},
		{"ordinary container", Plan{}, 0, some, Capabilities{chown | kill, kill, kill, chown | kill, kill}, 0},
		{"ordinary without a list", Plan{}, 0, nil, Capabilities{}, 0},
		{"ambient alone", Plan{}, 0, &specs.LinuxCapabilities{Bounding: []string{"CAP_NET_BIND_SERVICE"}, Ambient: []string{"CAP_NET_BIND_SERVICE"}}, Capabilities{Bounding: bind}, 1},
		{"permitted beyond bounding", Plan{}, 0, &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}, Permitted: []string{"CAP_CHOWN", "CAP_KILL"}, Effective: []string{"CAP_KILL"}}, Capabilities{Bounding: chown, Permitted: chown}, 2},
		{"unknown", Plan{}, 0, &specs.LinuxCapabilities{Bounding: []string{"CAP_NOPE", "chown", "CAP_CHOWN"}}, Capabilities{Bounding: chown}, 2},
	} {
		p, err := MakeProcess(&specs.Process{Args: []string{"x"}, Cwd: "/", User: specs.User{UID: c.uid}, Capabilities: c.caps}, false, &c.plan, testFacts())
		if err != nil {
			t.Fatal(c.name, err)
		}
		if p.Caps != c.want || len(p.Warnings) != c.warnings {
			t.Errorf("%s:\n got %+v %q\nwant %+v and %d warnings", c.name, p.Caps, p.Warnings, c.want, c.warnings)
		}
	}
	// A kernel without the newest ones does not get them.
	f := testFacts()
	f.CapLast = 37 // before CAP_PERFMON, Linux 5.8
	p, err := MakeProcess(&specs.Process{Args: []string{"x"}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_BPF"}}}, false, &Plan{System: true}, f)
	if err != nil || p.Caps.Bounding != 1<<38-1 || len(p.Warnings) != 1 {
		t.Errorf("old kernel: %+v, %v", p, err)
	}
}

func TestCapabilityNumbers(t *testing.T) {
	for name, n := range map[string]int{"CAP_CHOWN": 0, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27, "CAP_SYSLOG": 34, "CAP_CHECKPOINT_RESTORE": 40} {
		if capabilityNames[n] != name {
			t.Errorf("%d is %s, want %s", n, capabilityNames[n], name)
		}
	}
}

// TestExecEnvironment: exec inherits the spec's environment from the caller,
// SYSBOX_* included, and must not show it.
func TestExecEnvironment(t *testing.T) {
	p, err := MakeProcess(&specs.Process{
		Args: []string{"x"}, Cwd: "/a/../b",
		Env: []string{"A=1", "SYSBOX_HONOR_CAPS=TRUE", "B=", "A=2", "C=x=y"},
	}, true, &Plan{System: true}, testFacts())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"B=", "A=2", "C=x=y"}; !slices.Equal(p.Env, want) {
		t.Errorf("env %q, want %q", p.Env, want)
	}
	if p.Cwd != "/b" || !p.Terminal || len(p.Warnings) != 1 {
		t.Errorf("%+v", p)
	}
	if p.Caps.Effective == 0 {
		t.Error("the variable of an exec changed the container's policy")
	}
}

// TestSettings: each variable, and the same as an annotation.
func TestSettings(t *testing.T) {
	for _, c := range []struct {
		variable, annotation, value string
		check                       func(p *Plan) bool
	}{
		{"SYSBOX_SYSCONT_MODE", "io.sysbox.syscont-mode", "FALSE", func(p *Plan) bool { return !p.System && !p.RevealProc && p.Storage == nil }},
		{"SYSBOX_SYSCONT_MODE", "io.sysbox.syscont-mode", "TRUE", func(p *Plan) bool { return p.System }},
		{"SYSBOX_HONOR_CAPS", "io.sysbox.honor-caps", "true", func(p *Plan) bool { return p.HonorCaps && p.Process.Caps.Effective == 0xa80425fb }},
		{"SYSBOX_SKIP_UID_SHIFT", "io.sysbox.skip-uid-shift", "/x,/data/", func(p *Plan) bool {
			return find(t, p, "/data").IDMap == IDMapNone && len(p.Warnings) == 1 && strings.Contains(p.Warnings[0], `"/x", but the spec has no bind there`)
		}},
		{"SYSBOX_SKIP_UID_SHIFT", "io.sysbox.skip-uid-shift", "/data", func(p *Plan) bool { return len(p.Warnings) == 0 }},
		{"SYSBOX_SKIP_UID_SHIFT", "io.sysbox.skip-uid-shift", "/x", func(p *Plan) bool { return find(t, p, "/data").IDMap == IDMapContainer }},
		{"SYSBOX_IGNORE_SYSFS_CHOWN", "io.sysbox.ignore-sysfs-chown", "TRUE", func(p *Plan) bool { return len(p.Warnings) == 1 }},
		{"SYSBOX_ALLOW_TRUSTED_XATTR", "io.sysbox.allow-trusted-xattr", "TRUE", func(p *Plan) bool { return len(p.Warnings) == 1 }},
		{"SYSBOX_ALLOW_TRUSTED_XATTR", "io.sysbox.allow-trusted-xattr", "FALSE", func(p *Plan) bool { return len(p.Warnings) == 0 }},
	} {
		for _, how := range []string{"variable", "annotation", "both"} {
			if how == "variable" && c.variable == "SYSBOX_SKIP_UID_SHIFT" {
				continue // which TestWhoMaySet is about
			}
			in := testInput(t, "ctr")
			in.Spec.Process.NoNewPrivileges = false // of which there is a note
			in.Spec.Mounts = append(in.Spec.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: "/srv"})
			if how != "annotation" {
				in.Spec.Process.Env = append(in.Spec.Process.Env, c.variable+"="+c.value)
			}
			if how != "variable" {
				in.Spec.Annotations = map[string]string{c.annotation: c.value, "other": "x"}
			}
			p, err := Make(in)
			if err != nil {
				t.Errorf("%s=%s as %s: %v", c.variable, c.value, how, err)
				continue
			}
			if !c.check(p) {
				t.Errorf("%s=%s as %s: without effect; warnings %q", c.variable, c.value, how, p.Warnings)
			}
			if strings.Contains(strings.Join(p.Process.Env, "\n"), "SYSBOX") {
				t.Errorf("%s stayed in the environment", c.variable)
			}
		}
	}
}

// TestOOMScoreAdj: no system container escapes the OOM killer.
func TestOOMScoreAdj(t *testing.T) {
	for _, c := range []struct {
		system     bool
		give, want int
		warnings   int
	}{{true, -1000, -999, 1}, {true, -999, -999, 0}, {true, 1000, 1000, 0}, {false, -1000, -1000, 0}} {
		p, err := MakeProcess(&specs.Process{Args: []string{"x"}, Cwd: "/", OOMScoreAdj: &c.give}, false, &Plan{System: c.system}, testFacts())
		if err != nil || *p.OOMScoreAdj != c.want || len(p.Warnings) != c.warnings {
			t.Errorf("%+v: %+v %v", c, p, err)
		}
	}
}

// TestLabels: a profile is never dropped in silence.
func TestLabels(t *testing.T) {
	yes, no := testFacts(), testFacts()
	yes.AppArmor, yes.SELinux = true, true
	for _, c := range []struct {
		f                Facts
		apparmor, label  string
		refused          bool
		profile, selinux string
	}{
		{yes, "docker-default", "u:r:t:s0", false, "docker-default", "u:r:t:s0"},
		{yes, "unconfined", "", false, "unconfined", ""},
		{no, "unconfined", "", false, "", ""},
		{no, "docker-default", "", true, "", ""},
		{no, "", "u:r:t:s0", true, "", ""},
	} {
		p, err := MakeProcess(&specs.Process{Args: []string{"x"}, Cwd: "/", ApparmorProfile: c.apparmor, SelinuxLabel: c.label}, false, &Plan{System: true}, c.f)
		if c.refused {
			if !isRefusal(err) {
				t.Errorf("%+v: got %v, want a refusal", c, err)
			}
			continue
		}
		if err != nil || p.AppArmorProfile != c.profile || p.SELinuxLabel != c.selinux {
			t.Errorf("%+v: got %+v, %v", c, p, err)
		}
	}
}

// TestLabelsOfExec: without labels of its own a further process has init's.
func TestLabelsOfExec(t *testing.T) {
	f := testFacts()
	f.AppArmor, f.SELinux = true, true
	c := &Plan{Process: Process{AppArmorProfile: "docker-default", SELinuxLabel: "u:r:t:s0"}}
	for _, x := range []struct{ apparmor, label, wantProfile, wantLabel string }{
		{"", "", "docker-default", "u:r:t:s0"},
		{"unconfined", "", "unconfined", "u:r:t:s0"},
		{"other", "u:r:o:s0", "other", "u:r:o:s0"},
	} {
		p, err := MakeProcess(&specs.Process{Args: []string{"x"}, Cwd: "/", ApparmorProfile: x.apparmor, SelinuxLabel: x.label}, false, c, f)
		if err != nil || p.AppArmorProfile != x.wantProfile || p.SELinuxLabel != x.wantLabel {
			t.Errorf("%+v: got %+v, %v", x, p, err)
		}
	}
}

// TestNumbers: constants of the kernel's that a plan carries.
func TestNumbers(t *testing.T) {
	umask := uint32(0o27)
	p, err := MakeProcess(&specs.Process{
		Args: []string{"x"}, Cwd: "/", ConsoleSize: &specs.Box{Width: 80, Height: 25},
		User:       specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}, Umask: &umask},
		Rlimits:    []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 2}, {Type: "RLIMIT_RTTIME", Soft: 3, Hard: 1<<64 - 1}},
		Scheduler:  &specs.Scheduler{Policy: specs.SchedDeadline, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagReclaim, specs.SchedFlagDLOverrun}, Runtime: 2000, Deadline: 3000, Period: 4000},
		IOPriority: &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 4},
	}, true, &Plan{}, testFacts())
	if err != nil {
		t.Fatal(err)
	}
	p.Warnings = nil
	want := &Process{
		Args: []string{"x"}, Cwd: "/", Terminal: true, Width: 80, Height: 25, UID: 7, GID: 8, AdditionalGIDs: []uint32{9}, Umask: &umask,
		Rlimits:    []Rlimit{{7, "RLIMIT_NOFILE", 1, 2}, {15, "RLIMIT_RTTIME", 3, 1<<64 - 1}},
		Scheduler:  &Scheduler{Policy: 6, Flags: 6, Runtime: 2000, Deadline: 3000, PeriodNs: 4000},
		IOPriority: &IOPriority{Value: 2<<13 | 4},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
}
