// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	supported "sysbox/shim/features"
)

// TestInfo: -info says of each value what the table does: one that a row has honoured is in
// its list, and one that no row has honoured is not.
func TestInfo(t *testing.T) {
	f := supported.Supported()
	lists := map[string][]string{
		"mounts[].options":                   f.MountOptions,
		"linux.namespaces[].type":            f.Linux.Namespaces,
		"linux.memoryPolicy.mode":            f.Linux.MemoryPolicy.Modes,
		"linux.memoryPolicy.flags[]":         f.Linux.MemoryPolicy.Flags,
		"linux.seccomp.syscalls[].action":    f.Linux.Seccomp.Actions,
		"linux.seccomp.syscalls[].args[].op": f.Linux.Seccomp.Operators,
		"linux.seccomp.architectures[]":      f.Linux.Seccomp.Archs,
		"linux.seccomp.flags[]":              f.Linux.Seccomp.KnownFlags,
	}
	honoured := map[string][]string{}
	for _, r := range Table() {
		if r.Refused == "" || r.Want != "" {
			words := strings.FieldsFunc(r.Case, func(c rune) bool { return c == ' ' || c == ',' })
			honoured[r.Field] = append(honoured[r.Field], words...)
		}
	}
	for field, list := range lists {
		for _, v := range list {
			if !slices.Contains(honoured[field], v) {
				t.Errorf("-info has %s of %s, and no row has it honoured", v, field)
			}
		}
		if !slices.IsSorted(list) || len(list) != len(slices.Compact(slices.Clone(list))) {
			t.Errorf("the list of %s is not sorted, each once: %q", field, list)
		}
	}
	for _, v := range specValues(t) {
		for field, list := range lists {
			if slices.Contains(honoured[field], v) && !slices.Contains(list, v) {
				t.Errorf("a row has %s of %s honoured, and -info does not say so", v, field)
			}
		}
	}
	// The options of mounts are words of the document, not of its package.
	for _, r := range Table() {
		if r.Field == "mounts[].options" && r.Refused == "" && !strings.ContainsAny(r.Case, " =") && !slices.Contains(f.MountOptions, r.Case) {
			t.Errorf("a row has the mount option %s honoured, and -info does not say so", r.Case)
		}
	}
	sections := map[string]*bool{"linux.intelRdt": f.Linux.IntelRdt.Enabled, "linux.netDevices": f.Linux.NetDevices.Enabled}
	for section, said := range sections {
		is := slices.ContainsFunc(Table(), func(r Row) bool { return strings.HasPrefix(r.Field, section) && r.Refused == "" })
		if *said != is {
			t.Errorf("-info says %v of %s, and the rows %v", *said, section, is)
		}
	}
}

// TestInfoIsWhole: no field of the features' type is left unknown.
func TestInfoIsWhole(t *testing.T) {
	// What is known of the runtime is in RuntimeInfo, which containerd wraps around this.
	left := []string{"Features.Annotations"}
	var walk func(v reflect.Value, name string)
	walk = func(v reflect.Value, name string) {
		switch {
		case slices.Contains(left, name):
		case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Bool && !v.IsNil(): // no is an answer
		case v.IsZero():
			t.Errorf("%s is not said", name)
		case v.Kind() == reflect.Pointer:
			walk(v.Elem(), name)
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i), v.Type().Name()+"."+v.Type().Field(i).Name)
			}
		}
	}
	walk(reflect.ValueOf(supported.Supported()), reflect.TypeFor[features.Features]().Name())
}
