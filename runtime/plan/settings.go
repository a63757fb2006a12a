package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// settings are what is asked of this runtime beyond the spec.
type settings struct {
	SystemContainer   bool
	IgnoreSysfsChown  bool
	AllowTrustedXattr bool
	HonorCaps         bool
	// SkipUIDShift are mount destinations whose binds keep the host's ids; SkipField is the
	// field of the spec that says so, "" if the configuration does, which knows no mounts.
	SkipUIDShift []string
	SkipField    string
	// LiftNoNewPrivs leaves no_new_privs of the spec out.
	LiftNoNewPrivs bool
}

// Source is where a setting of one container comes from.
type Source string

const (
	// Annotations are those of the spec, which its caller writes.
	Annotations Source = "annotations"
	// Environment is process.env: the image's variables and the caller's, which a spec does
	// not tell apart.
	Environment Source = "environment"
)

// Sources are all of them.
var Sources = []Source{Annotations, Environment}

// Policy is what the administrator says of the settings. The zero value leaves all to the
// table of this package.
type Policy struct {
	// Sources are those that are heard at all; nil: all. At says where the configuration has
	// this, for errors.
	Sources []Source
	At      string
	// Rules are by the setting's name in the configuration.
	Rules map[string]Rule
}

// Rule is what the administrator says of one setting.
type Rule struct {
	// Default is the value that holds where nobody sets it, as a variable has it; nil: the
	// table's.
	Default *string
	// From are the sources that may set it; nil: the table's. Empty: nobody, so that the
	// default is fixed.
	From []Source
	// At says where the configuration has From, for errors.
	At string
}

// setting is a row of the table.
type setting struct {
	// name in the configuration; variable and annotation are "" where no source has it.
	name, variable, annotation string
	// byDefault and from hold where the administrator says nothing.
	byDefault string
	from      []Source
	// parse brings a value into the form in which values are compared, or says what is wrong
	// with it and the way out.
	parse func(value string) (canonical, why, wayOut string)
	// set takes the value, and the field of the spec that has it, "" for the configuration's.
	set func(s *settings, field, canonical string)
	// note is for the log where the setting has no effect yet.
	note string
}

// settingsTable is the closed list: each setting, its default, and who may set it. None that
// a source may set gives a container more than the default gives it, so that a pod cannot
// raise its privilege by them. Where ids are not shifted a volume shows, and keeps, ids of the
// host: no image says so.
var settingsTable = []setting{
	{
		name: "syscont_mode", variable: "SYSBOX_SYSCONT_MODE", annotation: "io.sysbox.syscont-mode",
		byDefault: "TRUE", from: Sources, parse: parseBool, set: toBool(func(s *settings) *bool { return &s.SystemContainer }),
	},
	{
		name: "ignore_sysfs_chown", variable: "SYSBOX_IGNORE_SYSFS_CHOWN", annotation: "io.sysbox.ignore-sysfs-chown",
		byDefault: "FALSE", from: Sources, parse: parseBool, set: toBool(func(s *settings) *bool { return &s.IgnoreSysfsChown }),
		note: "chown in /sys is not trapped",
	},
	{
		name: "allow_trusted_xattr", variable: "SYSBOX_ALLOW_TRUSTED_XATTR", annotation: "io.sysbox.allow-trusted-xattr",
		byDefault: "FALSE", from: Sources, parse: parseBool, set: toBool(func(s *settings) *bool { return &s.AllowTrustedXattr }),
		note: "trusted.* extended attributes are not trapped",
	},
	{
		name: "honor_caps", variable: "SYSBOX_HONOR_CAPS", annotation: "io.sysbox.honor-caps",
		byDefault: "FALSE", from: Sources, parse: parseBool, set: toBool(func(s *settings) *bool { return &s.HonorCaps }),
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
		name: "no_new_privileges", byDefault: "honour",
		parse: func(v string) (string, string, string) {
			if v != "honour" && v != "lift" {
				return "", "it is neither honour nor lift", "give one of the two"
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

// CheckSetting tells what is wrong with a value that the configuration gives a setting, and
// what to give instead; "" if nothing is.
func CheckSetting(name, value string) (why, wayOut string) {
	s := settingBy(func(s *setting) bool { return s.name == name })
	if s == nil {
		return "no such setting is known", "leave it out"
	}
	_, why, wayOut = s.parse(value)
	return why, wayOut
}

func parseBool(value string) (canonical, why, wayOut string) {
	for _, v := range []string{"TRUE", "FALSE"} {
		if strings.EqualFold(value, v) {
			return v, "", ""
		}
	}
	return "", "it is neither TRUE nor FALSE", "give one of the two"
}

func toBool(field func(*settings) *bool) func(*settings, string, string) {
	return func(s *settings, _, canonical string) { *field(s) = canonical == "TRUE" }
}

// parsePaths takes a list of paths with commas between them; none is an empty list.
func parsePaths(value string) (canonical, why, wayOut string) {
	var paths []string
	for p := range strings.SplitSeq(value, ",") {
		if !path.IsAbs(p) {
			return "", fmt.Sprintf("%q is not an absolute path", p), "give the destinations of bind mounts, separated by commas"
		}
		paths = append(paths, path.Clean(p))
	}
	return strings.Join(paths, ","), "", ""
}

const annotationPrefix = "io.sysbox."

// asked is a value of a setting, and where it comes from.
type asked struct {
	source Source
	// field and value as the spec has them, for errors.
	field, value string
	canonical    string
}

// readSettings reads the variables and annotations by the administrator's policy. It returns
// notes as well.
func readSettings(env []string, annotations map[string]string, policy Policy) (settings, []string, error) {
	var s settings
	var notes []string
	given := map[string]string{} // by variable
	// A variable that is empty is one that is not set: by it a caller takes back an image's.
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
		if row.note != "" && value == "TRUE" {
			if field == "" {
				field = "settings." + row.name + " of the configuration"
			}
			notes = append(notes, fmt.Sprintf("%s has no effect: %s by this version", field, row.note))
		}
	}
	for _, k := range sortedKeys(annotations) {
		if strings.HasPrefix(k, annotationPrefix) && !slices.Contains(known, k) {
			return s, nil, refuse("annotations", k, "no such annotation is known", "known are "+strings.Join(known, ", "))
		}
	}
	return s, notes, nil
}

// decide returns the value that holds, in the form for comparing, and the field of the spec
// that it is from, "" for the configuration and the table. A source that may not set it, but
// asks for what holds anyway, is not refused.
func (row *setting) decide(variables, annotations map[string]string, policy Policy) (value, field string, err error) {
	rule := policy.Rules[row.name]
	value = row.byDefault
	if rule.Default != nil {
		if value, _, _ = row.parse(*rule.Default); *rule.Default == "" {
			value = ""
		}
	}
	var all []asked
	if v, ok := annotations[row.annotation]; ok && row.annotation != "" {
		all = append(all, asked{source: Annotations, field: "annotations " + row.annotation, value: v})
	}
	if v, ok := variables[row.variable]; ok {
		all = append(all, asked{source: Environment, field: "process.env " + row.variable, value: v})
	}
	for i := range all {
		a := &all[i]
		var why, wayOut string
		if a.canonical, why, wayOut = row.parse(a.value); why != "" {
			return "", "", refuse(a.field, a.value, why, wayOut)
		}
	}
	if len(all) == 2 && all[0].canonical != all[1].canonical {
		return "", "", refuse(all[0].field, all[0].value, fmt.Sprintf("process.env has %s=%s", row.variable, all[1].value), "remove one of the two"+row.takeBack(Environment))
	}
	for _, a := range all {
		if row.may(a.source, policy) {
			value, field = a.canonical, a.field
		}
	}
	for _, a := range all {
		if a.canonical != value {
			return "", "", row.refuse(a, value, policy)
		}
	}
	return value, field, nil
}

// may tells whether a source may set this.
func (row *setting) may(s Source, policy Policy) bool {
	from := row.from
	if rule, ok := policy.Rules[row.name]; ok && rule.From != nil {
		from = rule.From
	}
	return slices.Contains(from, s) && (policy.Sources == nil || slices.Contains(policy.Sources, s))
}

// refuse says that a source may not set this, where that is written, and the way out.
func (row *setting) refuse(a asked, value string, policy Policy) error {
	holds := fmt.Sprintf("%q", value)
	if value == "" {
		holds = "nothing"
	}
	what := map[Source]string{Annotations: "annotation", Environment: "variable"}[a.source]
	rule := policy.Rules[row.name]
	var why string
	switch {
	case policy.Sources != nil && !slices.Contains(policy.Sources, a.source):
		why = fmt.Sprintf("the administrator lets no %s set anything (settings.sources, %s), and %s holds", what, policy.At, holds)
	case rule.From != nil:
		why = fmt.Sprintf("the administrator lets no %s set it (settings.%s.from, %s), and %s holds", what, row.name, rule.At, holds)
	default:
		why = "no " + what + " may set it, as it can be the image's"
	}
	other := Annotations
	if a.source == Annotations {
		other = Environment
	}
	wayOut := "leave it out"
	if row.may(other, policy) {
		wayOut = map[Source]string{
			Annotations: fmt.Sprintf("give the annotation %s instead (--annotation %s=%s)", row.annotation, row.annotation, a.value),
			Environment: fmt.Sprintf("set the variable %s instead (--env %s=%s)", row.variable, row.variable, a.value),
		}[other]
	}
	return refuse(a.field, a.value, why, wayOut+row.takeBack(a.source))
}

// takeBack is the way out for a caller that cannot change the image.
func (row *setting) takeBack(s Source) string {
	if s != Environment {
		return ""
	}
	return fmt.Sprintf("; an image's variable is taken back by an empty one (--env %s=)", row.variable)
}
