package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// settings are what a container's user may ask of this runtime beyond the
// spec: through variables in process.env, which are taken out of the
// environment, or through annotations.
type settings struct {
	SystemContainer   bool
	IgnoreSysfsChown  bool
	AllowTrustedXattr bool
	HonorCaps         bool
	// SkipUIDShift are mount destinations whose binds keep the host's ids.
	SkipUIDShift []string
}

// setting is one of the closed list of them.
type setting struct {
	variable, annotation string
	set                  func(s *settings, field, value string) error
	// note is for the log where the setting has no effect yet.
	note string
}

// settingsList is the closed list. None of them gives a container more than
// the default gives it, so that a pod cannot raise its privilege by them.
var settingsList = []setting{
	{variable: "SYSBOX_SYSCONT_MODE", annotation: "io.sysbox.syscont-mode", set: toBool(func(s *settings) *bool { return &s.SystemContainer })},
	{variable: "SYSBOX_IGNORE_SYSFS_CHOWN", annotation: "io.sysbox.ignore-sysfs-chown", set: toBool(func(s *settings) *bool { return &s.IgnoreSysfsChown }), note: "chown in /sys is not trapped"},
	{variable: "SYSBOX_ALLOW_TRUSTED_XATTR", annotation: "io.sysbox.allow-trusted-xattr", set: toBool(func(s *settings) *bool { return &s.AllowTrustedXattr }), note: "trusted.* extended attributes are not trapped"},
	{variable: "SYSBOX_HONOR_CAPS", annotation: "io.sysbox.honor-caps", set: toBool(func(s *settings) *bool { return &s.HonorCaps })},
	{variable: "SYSBOX_SKIP_UID_SHIFT", annotation: "io.sysbox.skip-uid-shift", set: func(s *settings, field, value string) error {
		for p := range strings.SplitSeq(value, ",") {
			if !path.IsAbs(p) {
				return refuse(field, value, fmt.Sprintf("%q is not an absolute path", p), "give the destinations of bind mounts, separated by commas")
			}
			s.SkipUIDShift = append(s.SkipUIDShift, path.Clean(p))
		}
		return nil
	}},
}

const annotationPrefix = "io.sysbox."

func toBool(field func(*settings) *bool) func(*settings, string, string) error {
	return func(s *settings, name, value string) error {
		switch strings.ToLower(value) {
		case "true":
			*field(s) = true
		case "false":
			*field(s) = false
		default:
			return refuse(name, value, "it is neither TRUE nor FALSE", "give one of the two")
		}
		return nil
	}
}

// readSettings reads the variables and annotations. It returns notes as well.
func readSettings(env []string, annotations map[string]string) (settings, []string, error) {
	s := settings{SystemContainer: true}
	var notes []string
	given := map[string]string{} // by variable
	_, err := stripVariables(env, func(name, value string) { given[name] = value })
	if err != nil {
		return s, nil, err
	}
	var known []string
	for _, l := range settingsList {
		known = append(known, l.annotation)
		value, ok := given[l.variable]
		field := "process.env " + l.variable
		if a, also := annotations[l.annotation]; also {
			if ok && a != value {
				return s, nil, refuse("annotations "+l.annotation, a, fmt.Sprintf("process.env has %s=%s", l.variable, value), "remove one of the two")
			}
			value, ok, field = a, true, "annotations "+l.annotation
		}
		if !ok {
			continue
		}
		if err := l.set(&s, field, value); err != nil {
			return s, nil, err
		}
		if l.note != "" && strings.EqualFold(value, "true") {
			notes = append(notes, fmt.Sprintf("%s has no effect: %s by this version", field, l.note))
		}
	}
	for _, k := range sortedKeys(annotations) {
		if strings.HasPrefix(k, annotationPrefix) && !slices.Contains(known, k) {
			return s, nil, refuse("annotations", k, "no such annotation is known", "known are "+strings.Join(known, ", "))
		}
	}
	return s, notes, nil
}

// stripVariables takes SYSBOX_* out of an environment and hands each to seen.
func stripVariables(env []string, seen func(name, value string)) ([]string, error) {
	var rest []string
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "SYSBOX_") {
			rest = append(rest, e)
			continue
		}
		if !slices.ContainsFunc(settingsList, func(l setting) bool { return l.variable == name }) {
			var names []string
			for _, l := range settingsList {
				names = append(names, l.variable)
			}
			return nil, refuse("process.env", e, "no such variable is known", "known are "+strings.Join(names, ", "))
		}
		seen(name, value)
	}
	return rest, nil
}
