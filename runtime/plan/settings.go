// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// settings are the settings of this runtime that go beyond the spec.
type settings struct {
	SystemContainer   bool
	IgnoreSysfsChown  bool
	AllowTrustedXattr bool
	HonorCaps         bool
	// SkipUIDShift are mount destinations whose binds keep the ids of the host. SkipField is
	// the field of the spec that set it; "" for the configuration, which does not know the mounts.
	SkipUIDShift []string
	SkipField    string
	// LiftNoNewPrivs ignores no_new_privs of the spec.
	LiftNoNewPrivs bool
}

// Source is where a setting of a container comes from.
type Source string

const (
	// Annotations are those of the spec; the caller writes them.
	Annotations Source = "annotations"
	// Environment is process.env: variables of the image and of the caller, which a spec does
	// not distinguish.
	Environment Source = "environment"
)

// Sources lists all sources.
var Sources = []Source{Annotations, Environment}

// Policy is the administrator's policy for settings. With the zero value the table of this
// package applies.
type Policy struct {
	// Sources are the sources that may change settings at all; nil: all. At is where the
	// configuration sets this, for errors.
	Sources []Source
	At      string
	// Rules are by the name of the setting in the configuration.
	Rules map[string]Rule
}

// Rule is the administrator's policy for one setting.
type Rule struct {
	// Default is the value that applies unless a source changes it, in the form of the
	// variable; nil: the default of the table.
	Default *string
	// From are the sources that may change it; nil: those of the table. Empty: none, so the
	// default always applies.
	From []Source
	// At is where the configuration sets From, for errors.
	At string
}

// setting is a row of the table.
type setting struct {
	// name is its name in the configuration; variable and annotation are "" if no source has it.
	name, variable, annotation string
	// defaultValue and from apply unless the administrator sets them.
	defaultValue string
	from         []Source
	// parse returns the canonical form of a value, for comparisons, or what is wrong with it
	// and a hint.
	parse func(value string) (canonical, reason, hint string)
	// set takes the value, and the field of the spec that set it; "" for the configuration.
	set func(s *settings, field, canonical string)
	// warning is for the log if the setting has no effect yet.
	warning string
}

// settingsTable is the complete list: each setting, its default, and the sources that may
// change it. A source can never give a container more privileges than the default, so a pod
// cannot raise its privileges. Where ids are not shifted a volume shows, and keeps, ids of
// the host: an image cannot ask for that.
var settingsTable = []setting{
	{
		name: "syscont_mode", variable: "SYSBOX_SYSCONT_MODE", annotation: "io.sysbox.syscont-mode",
		defaultValue: "TRUE", from: Sources, parse: parseBool, set: toBool(func(s *settings) *bool { return &s.SystemContainer }),
	},
	{
		name: "ignore_sysfs_chown", variable: "SYSBOX_IGNORE_SYSFS_CHOWN", annotation: "io.sysbox.ignore-sysfs-chown",
		defaultValue: "FALSE", from: Sources, parse: parseBool, set: toBool(func(s *settings) *bool { return &s.IgnoreSysfsChown }),
		warning: "chown in /sys is not trapped",
	},
	{
		name: "allow_trusted_xattr", variable: "SYSBOX_ALLOW_TRUSTED_XATTR", annotation: "io.sysbox.allow-trusted-xattr",
		defaultValue: "FALSE", from: Sources, parse: parseBool, set: toBool(func(s *settings) *bool { return &s.AllowTrustedXattr }),
		warning: "trusted.* extended attributes are not trapped",
	},
	{
		name: "honor_caps", variable: "SYSBOX_HONOR_CAPS", annotation: "io.sysbox.honor-caps",
		defaultValue: "FALSE", from: Sources, parse: parseBool, set: toBool(func(s *settings) *bool { return &s.HonorCaps }),
	},
	{
		name: "skip_uid_shift", variable: "SYSBOX_SKIP_UID_SHIFT", annotation: "io.sysbox.skip-uid-shift",
		from: []Source{Annotations}, parse: parsePaths, set: func(s *settings, field, v string) {
			if v != "" {
				s.SkipUIDShift, s.SkipField = strings.Split(v, ","), field
			}
		},
	},
	{
		name: "no_new_privileges", defaultValue: "honour",
		parse: func(v string) (string, string, string) {
			if v != "honour" && v != "lift" {
				return "", "it must be honour or lift", ""
			}
			return v, "", ""
		},
		set: func(s *settings, _, v string) { s.LiftNoNewPrivs = v == "lift" },
	},
}

func settingBy(is func(*setting) bool) *setting {
	if i := slices.IndexFunc(settingsTable, func(s setting) bool { return is(&s) }); i >= 0 {
		return &settingsTable[i]
	}
	return nil
}

// CheckSetting checks a value that the configuration gives to a setting. It returns a clause
// that says what is wrong and what to use instead, or "".
func CheckSetting(name, value string) string {
	s := settingBy(func(s *setting) bool { return s.name == name })
	if s == nil {
		return "unknown setting; remove it"
	}
	_, reason, hint := s.parse(value)
	if hint != "" {
		reason += "; " + hint
	}
	return reason
}

func parseBool(value string) (canonical, reason, hint string) {
	for _, v := range []string{"TRUE", "FALSE"} {
		if strings.EqualFold(value, v) {
			return v, "", ""
		}
	}
	return "", "it must be TRUE or FALSE", ""
}

func toBool(field func(*settings) *bool) func(*settings, string, string) {
	return func(s *settings, _, canonical string) { *field(s) = canonical == "TRUE" }
}

// parsePaths parses paths separated by commas.
func parsePaths(value string) (canonical, reason, hint string) {
	var paths []string
	for p := range strings.SplitSeq(value, ",") {
		if !path.IsAbs(p) {
			return "", fmt.Sprintf("%q is not an absolute path", p), "list the destinations of bind mounts, separated by commas"
		}
		paths = append(paths, path.Clean(p))
	}
	return strings.Join(paths, ","), "", ""
}

const annotationPrefix = "io.sysbox."

// request is a value that a source asks for.
type request struct {
	source Source
	// field and value as in the spec, for errors.
	field, value string
	canonical    string
}

// readSettings reads the variables and annotations according to policy. It also returns
// warnings.
func readSettings(env []string, annotations map[string]string, policy Policy) (settings, []string, error) {
	var s settings
	var warnings []string
	given := map[string]string{} // by variable
	// An empty variable counts as not set: with it a caller unsets a variable of the image.
	_, err := stripVariables(env, func(name, value string) {
		if delete(given, name); value != "" {
			given[name] = value
		}
	})
	if err != nil {
		return s, nil, err
	}
	var known []string
	for i := range settingsTable {
		row := &settingsTable[i]
		if row.annotation != "" {
			known = append(known, row.annotation)
		}
		value, field, err := row.decide(given, annotations, policy)
		if err != nil {
			return s, nil, err
		}
		row.set(&s, field, value)
		if row.warning != "" && value == "TRUE" {
			if field == "" {
				field = "settings." + row.name + " of the configuration"
			}
			warnings = append(warnings, fmt.Sprintf("%s has no effect: %s by this version", field, row.warning))
		}
	}
	for _, k := range sortedKeys(annotations) {
		if strings.HasPrefix(k, annotationPrefix) && !slices.Contains(known, k) {
			return s, nil, invalid("annotations", k, "unknown annotation", "supported: "+strings.Join(known, ", "))
		}
	}
	return s, warnings, nil
}

// decide returns the value that applies, in canonical form, and the field of the spec that
// set it; "" for the configuration and the table. A source that may not change the setting may
// still ask for the value that applies anyway.
func (row *setting) decide(variables, annotations map[string]string, policy Policy) (value, field string, err error) {
	rule := policy.Rules[row.name]
	value = row.defaultValue
	if rule.Default != nil {
		if value, _, _ = row.parse(*rule.Default); *rule.Default == "" {
			value = ""
		}
	}
	var all []request
	if v, ok := annotations[row.annotation]; ok && row.annotation != "" {
		all = append(all, request{source: Annotations, field: "annotations " + row.annotation, value: v})
	}
	if v, ok := variables[row.variable]; ok {
		all = append(all, request{source: Environment, field: "process.env " + row.variable, value: v})
	}
	for i := range all {
		a := &all[i]
		var reason, hint string
		if a.canonical, reason, hint = row.parse(a.value); reason != "" {
			return "", "", invalid(a.field, a.value, reason, hint)
		}
	}
	if len(all) == 2 && all[0].canonical != all[1].canonical {
		return "", "", invalid(all[0].field, all[0].value, fmt.Sprintf("process.env has %s=%s", row.variable, all[1].value), "remove one of the two"+row.unsetHint(Environment))
	}
	for _, a := range all {
		if row.allows(a.source, policy) {
			value, field = a.canonical, a.field
		}
	}
	for _, a := range all {
		if a.canonical != value {
			return "", "", row.invalid(a, value, policy)
		}
	}
	return value, field, nil
}

// allows reports whether a source may change the setting.
func (row *setting) allows(s Source, policy Policy) bool {
	from := row.from
	if rule, ok := policy.Rules[row.name]; ok && rule.From != nil {
		from = rule.From
	}
	return slices.Contains(from, s) && (policy.Sources == nil || slices.Contains(policy.Sources, s))
}

// invalid returns the error for a source that may not change the setting. It says where that
// is configured and what to do.
func (row *setting) invalid(a request, value string, policy Policy) error {
	now := fmt.Sprintf("its value is %q", value)
	if value == "" {
		now = "it is not set"
	}
	what := map[Source]string{Annotations: "annotations", Environment: "variables"}[a.source]
	rule := policy.Rules[row.name]
	var reason string
	switch {
	case policy.Sources != nil && !slices.Contains(policy.Sources, a.source):
		reason = fmt.Sprintf("the administrator does not let %s change settings (settings.sources, %s), and %s", what, policy.At, now)
	case rule.From != nil:
		reason = fmt.Sprintf("the administrator does not let %s change it (settings.%s.from, %s), and %s", what, row.name, rule.At, now)
	default:
		reason = what + " may not change it, since they can come from the image"
	}
	other := Annotations
	if a.source == Annotations {
		other = Environment
	}
	hint := "remove it"
	if row.allows(other, policy) {
		hint = map[Source]string{
			Annotations: fmt.Sprintf("use the annotation %s instead (--annotation %s=%s)", row.annotation, row.annotation, a.value),
			Environment: fmt.Sprintf("set the variable %s instead (--env %s=%s)", row.variable, row.variable, a.value),
		}[other]
	}
	return invalid(a.field, a.value, reason, hint+row.unsetHint(a.source))
}

// unsetHint is the hint for a caller that cannot change the image.
func (row *setting) unsetHint(s Source) string {
	if s != Environment {
		return ""
	}
	return fmt.Sprintf("; to unset a variable of the image, set it to an empty value (--env %s=)", row.variable)
}
