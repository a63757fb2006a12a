// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestConfig: a wrong value is refused with its key, itself and the way out.
func TestConfig(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config.toml")
	t.Setenv("SYSBOX_CONFIG_FILE", name)
	for _, c := range []struct {
		text string
		want []string // of the error; none: there is none
	}{
		{"", nil},
		{`modules = ["dummy"]`, nil},
		{"\nmodules = \"dummy\"", []string{"line 2: ", "modules takes a list"}},
		{`modules = ["a/b"]`, []string{", line 1: modules[0]", `"a/b"`, "lsmod"}},
		{"state_dir = 5", []string{"line 1: \"state_dir = 5\"", "state_dir takes an absolute path in quotes"}},
		{"[ids]\nrange_size = -5", []string{"line 2: \"range_size = -5\"", "ids.range_size takes a number from 65536"}},
		{"[ids]\npool_start = 65536", []string{", line 2: ids.pool_start", "65536", "ids.pool_size as well"}},
		{"[ids]\npool_start = 0", []string{", line 2: ids.pool_start is 0", "1 or more"}},
		{"\n[ids]\npool_start = 65536\npool_size = 0", []string{", line 4: ids.pool_size is 0", "1 or more"}},
		{"ids = 3", []string{"line 1: \"ids = 3\"", "a table, [ids]"}},
		{"# text\nstate_dir = /run", []string{"line 2: \"state_dir = /run\" is not TOML"}},
		{"state_dir = \"/a\"\nstate_dir = \"/b\"", []string{"line 2", "not TOML", "already defined"}},
		{`block_devices = ["/dev/vdb", "/dev/loop*"]`, nil},
		{`fuse_mounts = {ext4 = "fuse2fs -o fakeroot", ntfs3 = "/usr/bin/ntfs-3g"}`, nil},
		{"[fuse_mounts]\next4 = \"fuse2fs\"", nil},
		{`fuse_mounts = "ext4"`, []string{"line 1", "fuse_mounts takes a command"}},
		{`fuse_mounts = {ext4 = ""}`, []string{", line 1: fuse_mounts.ext4", `""`, "a program in the container"}},
		{`fuse_mounts = {ext4 = "bin/fuse2fs"}`, []string{", line 1: fuse_mounts.ext4", `"bin/fuse2fs"`, "absolute path"}},
		{`fuse_mounts = {"a b" = "fuse2fs"}`, []string{", line 1: fuse_mounts.a b", "block file system"}},
		{`fuse_mounts = {ext4 = 1}`, []string{"line 1"}},
		{`block_devices = ["vdb"]`, []string{", line 1: block_devices[0]", `"vdb"`, "absolute path"}},
		{`block_devices = ["/dev/["]`, []string{", line 1: block_devices", `"/dev/["`, "pattern"}},
		{`state_dir = "run"`, []string{", line 1: state_dir", `"run"`, "absolute"}},
		{`unshifted_binds = "no"`, []string{", line 1: unshifted_binds", `"no"`, `"warn" or "refuse"`}},
		{"[ids]\nrange_size = 1000", []string{", line 2: ids.range_size", "1000", "65536"}},
		{"[settings]\nsources = []\n[settings.honor_caps]\ndefault = true\nfrom = []", nil},
		{"settings = {sources = [\"annotations\", \"environment\"], honor_caps = {default = true}, skip_uid_shift = {default = [\"/data\"]}}", nil},
		{"settings.no_new_privileges.default = \"lift\"", nil},
		{"[settings]\nsources = [\"annotations\", \"image\"]", []string{", line 2: settings.sources has \"image\"; give \"annotations\""}},
		{"\n[settings.honor_caps]\nfrom = [\"annotation\"]", []string{", line 3: settings.honor_caps.from has \"annotation\""}},
		{"settings = {honor_caps = {from = [\"annotation\"]}}", []string{", line 1: settings.honor_caps.from"}},
		{"[settings]\nhonor_caps = {default = \"TRUE\"}", []string{"line 2: ", "settings.honor_caps.default takes true or false"}},
		{"[settings]\nhonor_caps = true", []string{"line 2: ", "settings.honor_caps is a table", "settings.honor_caps.from takes a list"}},
		{"[settings.skip_uid_shift]\ndefault = [\"/data\", \"x\"]", []string{", line 2: settings.skip_uid_shift.default is \"/data,x\"", "\"x\" is not an absolute path"}},
		{"[settings.no_new_privileges]\ndefault = \"ignore\"", []string{", line 2: settings.no_new_privileges.default is \"ignore\": it must be honour or lift"}},
		{"[settings.no_new_privileges]\nfrom = []", []string{"line 2: settings.no_new_privileges.from is not a key"}},
		{"[settings]\n\nnonsense = 1", []string{"line 3: settings.nonsense is not a key"}},
		{"modles = []", []string{"line 1: modles is not a key; did you mean modules?", "docs/configuration.md"}},
		{"xyzzyxyzzy = 1", []string{"line 1: xyzzyxyzzy is not a key; the keys are state_dir, ", "settings.sources"}},
		{"[ids]\nsubid_usr = \"a\"", []string{"did you mean ids.subid_user?"}},
		{"\n[ids]\nnonsense = 1", []string{"line 3: ids.nonsense is not a key"}},
	} {
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load("")
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %q does not say %q", c.text, err, w)
			}
		}
	}
}

// TestConfigKeys: what the errors say of the keys is of all that there are.
func TestConfigKeys(t *testing.T) {
	var keys []string
	var walk func(prefix string, s reflect.Type)
	walk = func(prefix string, s reflect.Type) {
		for f := range s.Fields() {
			if !f.IsExported() {
				continue
			}
			if f.Tag.Get("toml") == "-" {
				continue
			}
			if key := prefix + f.Tag.Get("toml"); f.Type.Kind() == reflect.Struct {
				walk(key+".", f.Type)
			} else {
				keys = append(keys, key)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	docs, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, k := range configKeys {
		told = append(told, k.name)
		if !strings.Contains(string(docs), "`"+k.name+"`") {
			t.Errorf("docs/configuration.md has nothing of %s", k.name)
		}
	}
	slices.Sort(keys)
	slices.Sort(told)
	if !slices.Equal(keys, told) {
		t.Errorf("the errors know %v, and the keys are %v", told, keys)
	}
}

// TestConfigFile: which file is read, and what is said of one that is not there.
func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		want []string
	}{
		{"", nil},
		{filepath.Join(dir, "none.toml"), []string{"SYSBOX_CONFIG_FILE", "none.toml", "no such file", "correct the name"}},
		{dir, []string{"SYSBOX_CONFIG_FILE", dir, "is a directory"}},
		{"config.toml", []string{`SYSBOX_CONFIG_FILE is "config.toml"`, "absolute path"}},
	} {
		t.Setenv("SYSBOX_CONFIG_FILE", c.name)
		_, err := Load("")
		if (err == nil) != (c.want == nil) {
			t.Errorf("%q: %v", c.name, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v does not say %q", c.name, err, w)
			}
		}
	}
}
