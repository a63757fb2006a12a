// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"sysbox/runtime/plan"
)

// Settings is the [settings] table: what holds where a container says nothing, and
// which source of settings is heard. docs/configuration.md has the defaults.
type Settings struct {
	// Sources are those that are heard at all; nil: both.
	Sources *[]string `toml:"sources"`

	SyscontMode       BoolSetting   `toml:"syscont_mode"`
	HonorCaps         BoolSetting   `toml:"honor_caps"`
	SkipUIDShift      PathsSetting  `toml:"skip_uid_shift"`
	IgnoreSysfsChown  BoolSetting   `toml:"ignore_sysfs_chown"`
	AllowTrustedXattr BoolSetting   `toml:"allow_trusted_xattr"`
	NoNewPrivileges   ChoiceSetting `toml:"no_new_privileges"`
}

// BoolSetting is a setting that is true or false. In all of these nil is what the table of
// package plan has; From names the sources that may set it, none if it is empty.
type BoolSetting struct {
	Default *bool     `toml:"default"`
	From    *[]string `toml:"from"`
}

// PathsSetting is a setting that is a list of absolute paths in the container.
type PathsSetting struct {
	Default *[]string `toml:"default"`
	From    *[]string `toml:"from"`
}

// ChoiceSetting is a setting that is one of some words, and the administrator's alone.
type ChoiceSetting struct {
	Default *string `toml:"default"`
}

// policy is what the table says to a plan. The errors and those of the plan name the file and
// the line.
func (c *Settings) policy(file string, lines map[string]int) (plan.Policy, error) {
	at := func(key string) string { return fmt.Sprintf("%s, line %d", file, lines[key]) }
	p := plan.Policy{Rules: map[string]plan.Rule{}, At: at("settings.sources")}
	var err error
	if p.Sources, err = sources("settings.sources", c.Sources, at); err != nil {
		return p, err
	}
	for _, s := range []struct {
		name  string
		value *string
		from  *[]string
	}{
		{"syscont_mode", boolText(c.SyscontMode.Default), c.SyscontMode.From},
		{"honor_caps", boolText(c.HonorCaps.Default), c.HonorCaps.From},
		{"skip_uid_shift", pathsText(c.SkipUIDShift.Default), c.SkipUIDShift.From},
		{"ignore_sysfs_chown", boolText(c.IgnoreSysfsChown.Default), c.IgnoreSysfsChown.From},
		{"allow_trusted_xattr", boolText(c.AllowTrustedXattr.Default), c.AllowTrustedXattr.From},
		{"no_new_privileges", c.NoNewPrivileges.Default, nil},
	} {
		key := "settings." + s.name
		if s.value != nil && *s.value != "" {
			if problem := plan.CheckSetting(s.name, *s.value); problem != "" {
				return p, fmt.Errorf("configuration %s: %s.default is %q: %s", at(key+".default"), key, *s.value, problem)
			}
		}
		from, err := sources(key+".from", s.from, at)
		if err != nil {
			return p, err
		}
		if s.value != nil || from != nil {
			p.Rules[s.name] = plan.Rule{Default: s.value, From: from, At: at(key + ".from")}
		}
	}
	return p, nil
}

// sources reads a list of sources; nil stays nil.
func sources(key string, list *[]string, at func(string) string) ([]plan.Source, error) {
	if list == nil {
		return nil, nil
	}
	out := []plan.Source{}
	for _, s := range *list {
		if s != string(plan.Annotations) && s != string(plan.Environment) {
			return nil, fmt.Errorf(`configuration %s: %s has %q; give "annotations", "environment", both, or [] for nobody`, at(key), key, s)
		}
		out = append(out, plan.Source(s))
	}
	return out, nil
}

func boolText(b *bool) *string {
	if b == nil {
		return nil
	}
	s := strings.ToUpper(fmt.Sprint(*b))
	return &s
}

func pathsText(list *[]string) *string {
	if list == nil {
		return nil
	}
	s := strings.Join(*list, ",")
	return &s
}

// keyLines are the lines of a configuration's keys, by their names with dots.
func keyLines(text []byte) map[string]int {
	lines := map[string]int{}
	p := unstable.Parser{}
	p.Reset(text)
	table := ""
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, _ = keyOf(&p, e)
			table += "."
		case unstable.KeyValue:
			addLines(&p, lines, table, e)
		}
	}
	return lines
}

// addLines adds the line of a key, and those of the keys of its inline table.
func addLines(p *unstable.Parser, lines map[string]int, table string, e *unstable.Node) {
	name, line := keyOf(p, e)
	lines[table+name] = line
	if v := e.Value(); v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			if n := it.Node(); n.Kind == unstable.KeyValue {
				addLines(p, lines, table+name+".", n)
			}
		}
	}
}

// keyOf is a key with dots between its parts, and the line that it begins in.
func keyOf(p *unstable.Parser, e *unstable.Node) (name string, line int) {
	var parts []string
	for it := e.Key(); it.Next(); {
		n := it.Node()
		if parts = append(parts, string(n.Data)); line == 0 {
			line = p.Shape(n.Raw).Start.Line
		}
	}
	return strings.Join(parts, "."), line
}
