// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sysbox/runtime/state"
	"sysbox/shim/bundle"
)

// TestFindDirs: where a container's record is says the bundle; if it does not, or what it says
// is damaged, the record is looked for, and only if something may be left is there an error.
func TestFindDirs(t *testing.T) {
	stateDir := t.TempDir()
	config := filepath.Join(t.TempDir(), "config.toml")
	t.Setenv("SYSBOX_CONFIG_FILE", config)
	record := filepath.Join(stateDir, "containers/ns/c1.json")
	if err := os.MkdirAll(filepath.Dir(record), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	there := "state_dir = \"" + stateDir + "\"\n"
	for _, c := range []struct {
		name, config, id  string
		dirs, damaged, on bool // the bundle has directories, cut; init was made
		state, fails      string
	}{
		{name: "the bundle", config: "[", id: "c1", dirs: true, state: "/of/the/bundle"},
		{name: "a version before", config: there, id: "c1", on: true, state: stateDir},
		{name: "a version before, a typo", config: there + "moduls = []\n", id: "c1", on: true, state: stateDir},
		{name: "damaged", config: there, id: "c1", dirs: true, damaged: true, on: true, state: stateDir},
		{name: "nothing was made", config: "[", id: "c2", state: state.Defaults().State},
		{name: "deleted before", config: there, id: "c2", on: true, state: stateDir},
		{name: "no TOML", config: "[", id: "c2", on: true, fails: "the configuration cannot be read"},
		{name: "damaged, no record", config: there, id: "c2", dirs: true, damaged: true, on: true, fails: "is incomplete"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(config, []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.dirs {
				if err := bundle.WriteDirs(dir, "/of/the/bundle", "/data"); err != nil {
					t.Fatal(err)
				}
			}
			if c.damaged {
				if err := os.Truncate(filepath.Join(dir, bundle.Dirs), 12); err != nil {
					t.Fatal(err)
				}
			}
			if c.on {
				if err := bundle.WriteInitPid(dir, 4711); err != nil {
					t.Fatal(err)
				}
			}
			d, err := findDirs(flags{namespace: "ns", id: c.id}, dir)
			switch {
			case c.fails != "":
				if err == nil || !strings.Contains(err.Error(), c.fails) || !strings.Contains(err.Error(), "reclaim") {
					t.Errorf("%v; want %q", err, c.fails)
				}
			case err != nil || d.State != c.state:
				t.Errorf("%+v, %v; want %s", d, err, c.state)
			}
		})
	}
}
