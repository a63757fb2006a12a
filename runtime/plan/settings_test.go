// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// whoMay is the table of docs/configuration.md a second time: a setting, a value that is not
// its default, and who may give it where the administrator says nothing.
var whoMay = []struct {
	name, defaultValue, other string
	annotations, environment  bool
}{
	{"SYSCONT_MODE", "TRUE", "FALSE", true, true},
	{"HONOR_CAPS", "FALSE", "TRUE", true, true},
	{"SKIP_UID_SHIFT", "", "/data", true, false},
	{"IGNORE_SYSFS_CHOWN", "FALSE", "TRUE", true, true},
	{"ALLOW_TRUSTED_XATTR", "FALSE", "TRUE", true, true},
}

func keyOf(name string) string { return strings.ToLower(name) }

func annotationOf(name string) string {
	return annotationPrefix + strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// holding is the value of a setting.
func holding(s settings, name string) string {
	b := map[string]bool{
		"SYSCONT_MODE": s.SystemContainer, "HONOR_CAPS": s.HonorCaps,
		"IGNORE_SYSFS_CHOWN": s.IgnoreSysfsChown, "ALLOW_TRUSTED_XATTR": s.AllowTrustedXattr,
	}
	if v, ok := b[name]; ok {
		return strings.ToUpper(fmt.Sprint(v))
	}
	return strings.Join(s.SkipUIDShift, ",")
}

// TestWhoMaySet: each setting by each source under each policy of the administrator's. A source
// that may not set it is refused with the field, the value, who says so, and the way out, but not
// where it asks for what holds anyway.
func TestWhoMaySet(t *testing.T) {
	const at, line = "/etc/sysbox/config.toml, line 7", "/etc/sysbox/config.toml, line 3"
	both := []Source{Annotations, Environment}
	for _, w := range whoMay {
		own := slices.DeleteFunc(slices.Clone(both), func(s Source) bool {
			return s == Annotations && !w.annotations || s == Environment && !w.environment
		})
		for _, p := range []struct {
			name       string
			policy     Policy
			from       []Source // who may after all
			inForce    string
			saying     string // of who may not
			notAllowed []Source
		}{
			{name: "nothing said", from: own, inForce: w.defaultValue, saying: "since they can come from the image"},
			{name: "another default", policy: only(w.name, Rule{Default: &w.other, At: at}), from: own, inForce: w.other, saying: "since they can come from the image"},
			{name: "fixed to the default", policy: only(w.name, Rule{From: []Source{}, At: at}), inForce: w.defaultValue, saying: at},
			{name: "fixed to another", policy: only(w.name, Rule{Default: &w.other, From: []Source{}, At: at}), inForce: w.other, saying: at},
			{name: "annotations", policy: only(w.name, Rule{From: both[:1], At: at}), from: both[:1], inForce: w.defaultValue, saying: at},
			{name: "environment", policy: only(w.name, Rule{From: both[1:], At: at}), from: both[1:], inForce: w.defaultValue, saying: at},
			{name: "both", policy: only(w.name, Rule{From: both, At: at}), from: both, inForce: w.defaultValue},
			{name: "nobody at all", policy: Policy{Sources: []Source{}, At: line}, inForce: w.defaultValue, saying: line},
			{name: "annotations only, of all", policy: Policy{Sources: both[:1], At: line}, from: both[:1], inForce: w.defaultValue, saying: line},
			{name: "environment only, of all", policy: Policy{Sources: both[1:], At: line}, from: slices.DeleteFunc(slices.Clone(own), func(s Source) bool { return s == Annotations }), inForce: w.defaultValue},
			{name: "another of all, which a row cannot take back", policy: Policy{Sources: both[:1], At: line, Rules: only(w.name, Rule{From: both, At: at}).Rules}, from: both[:1], inForce: w.defaultValue, saying: line},
		} {
			for _, source := range both {
				for _, value := range []string{w.defaultValue, w.other} {
					if value == "" {
						continue // which cannot be asked for
					}
					name := fmt.Sprintf("%s, %s: %s by %s", w.name, p.name, value, source)
					var env []string
					annotations := map[string]string{}
					field := "annotations " + annotationOf(w.name)
					if source == Environment {
						env, field = []string{"SYSBOX_" + w.name + "=" + strings.ToLower(value)}, "process.env SYSBOX_"+w.name
					} else {
						annotations[annotationOf(w.name)] = strings.ToLower(value)
					}
					s, _, err := readSettings(env, annotations, p.policy)
					if slices.Contains(p.from, source) || value == p.inForce {
						if err != nil || holding(s, w.name) != value {
							t.Errorf("%s: %v, holds %q", name, err, holding(s, w.name))
						}
						continue
					}
					r := refusalOf(t, err)
					if r == nil || r.Field != field || r.Value != strings.ToLower(value) {
						t.Errorf("%s: %v", name, err)
						continue
					}
					if !strings.Contains(r.Reason, p.saying) {
						t.Errorf("%s: %q does not say %q", name, r.Reason, p.saying)
					}
					checkWayOut(t, name, r.Hint, w.name, source, p.from)
				}
			}
			// Nobody asks.
			if s, _, err := readSettings(nil, nil, p.policy); err != nil || holding(s, w.name) != p.inForce {
				t.Errorf("%s, %s: %v, holds %q", w.name, p.name, err, holding(s, w.name))
			}
			// A caller takes an image's variable back.
			env := []string{"SYSBOX_" + w.name + "=" + w.other, "SYSBOX_" + w.name + "="}
			if s, _, err := readSettings(env, nil, p.policy); err != nil || holding(s, w.name) != p.inForce {
				t.Errorf("%s, %s, taken back: %v, holds %q", w.name, p.name, err, holding(s, w.name))
			}
		}
	}
}

func only(name string, r Rule) Policy { return Policy{Rules: map[string]Rule{keyOf(name): r}} }

// checkWayOut: the refusal names the source that is open, and how to take an image's variable back.
func checkWayOut(t *testing.T, what, hint, name string, source Source, open []Source) {
	t.Helper()
	want := "remove it"
	switch {
	case source == Environment && slices.Contains(open, Annotations):
		want = "--annotation " + annotationOf(name) + "="
	case source == Annotations && slices.Contains(open, Environment):
		want = "--env SYSBOX_" + name + "="
	}
	if !strings.Contains(hint, want) || source == Environment && !strings.Contains(hint, "(--env SYSBOX_"+name+"=)") {
		t.Errorf("%s: the way out is %q, without %q", what, hint, want)
	}
}

// TestSettingsThatContradict: two sources that differ are refused whatever the policy; the case
// of letters is no difference.
func TestSettingsThatContradict(t *testing.T) {
	for _, p := range []Policy{{}, only("HONOR_CAPS", Rule{From: []Source{}}), {Sources: []Source{Annotations}}} {
		_, _, err := readSettings([]string{"SYSBOX_HONOR_CAPS=TRUE"}, map[string]string{"io.sysbox.honor-caps": "false"}, p)
		if r := refusalOf(t, err); r == nil || !strings.Contains(r.Error(), "process.env has SYSBOX_HONOR_CAPS=TRUE; remove one of the two") {
			t.Errorf("%v", err)
		}
	}
	if s, _, err := readSettings([]string{"SYSBOX_HONOR_CAPS=TRUE"}, map[string]string{"io.sysbox.honor-caps": "true"}, Policy{}); err != nil || !s.HonorCaps {
		t.Errorf("%v, %+v", err, s)
	}
	// The annotation may, and the variable asks for the same.
	s, _, err := readSettings([]string{"SYSBOX_SKIP_UID_SHIFT=/a/"}, map[string]string{"io.sysbox.skip-uid-shift": "/a"}, Policy{})
	if err != nil || !slices.Equal(s.SkipUIDShift, []string{"/a"}) {
		t.Errorf("%v, %+v", err, s)
	}
}

// TestNoNewPrivileges: the spec's word is kept, with a line in the log where init is systemd; the
// administrator can lift it, for system containers and their execs only.
func TestNoNewPrivileges(t *testing.T) {
	lift := "lift"
	lifted := Policy{Rules: map[string]Rule{"no_new_privileges": {Default: &lift}}}
	for _, c := range []struct {
		name    string
		args    string
		env     string
		given   bool
		policy  Policy
		want    bool
		warning string
	}{
		{"systemd", "/sbin/init", "", true, Policy{}, true, "ctr run --allow-new-privs"},
		{"systemd without", "/sbin/init", "", false, Policy{}, false, ""},
		{"another program", "/bin/sh", "", true, Policy{}, true, ""},
		{"lifted", "/sbin/init", "", true, lifted, false, "settings.no_new_privileges.default"},
		{"lifted, another program", "/bin/sh", "", true, lifted, false, "settings.no_new_privileges.default"},
		{"lifted, nothing to lift", "/sbin/init", "", false, lifted, false, ""},
		{"lifted, an ordinary container", "/sbin/init", "SYSBOX_SYSCONT_MODE=FALSE", true, lifted, true, ""},
	} {
		in := testInput(t, "ctr")
		in.Settings = c.policy
		in.Spec.Process.Args, in.Spec.Process.NoNewPrivileges = []string{c.args}, c.given
		in.Spec.Process.Env = append(in.Spec.Process.Env, c.env)
		if c.env == "" {
			in.Spec.Process.Env = in.Spec.Process.Env[:len(in.Spec.Process.Env)-1]
		}
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		warnings := strings.Join(slices.DeleteFunc(slices.Clone(p.Warnings), func(n string) bool { return !strings.Contains(n, "noNewPrivileges") }), "\n")
		if p.Process.NoNewPrivs != c.want || (c.warning == "") != (warnings == "") || !strings.Contains(warnings, c.warning) {
			t.Errorf("%s: no_new_privs is %v, warnings %q", c.name, p.Process.NoNewPrivs, warnings)
		}
		e, err := MakeProcess(in.Spec.Process, false, p, in.Facts)
		if err != nil || e.NoNewPrivs != c.want {
			t.Errorf("%s: an exec: %v, %v", c.name, err, e)
		}
	}
}
