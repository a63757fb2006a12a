// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sysbox/runtime/config"
	"sysbox/runtime/feature"
	"sysbox/runtime/state"
)

// TestCheck: each feature has its line, and what is lacking a way out.
func TestCheck(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("probes mount, which takes root")
	}
	var out strings.Builder
	if err := check(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for _, f := range feature.All {
		found := false
		for i, l := range lines {
			switch answer, what, _ := strings.Cut(l, " "); {
			case answer == "yes" && strings.TrimSpace(what) == f.Name:
				found = true
			case answer == "no" && strings.HasPrefix(strings.TrimSpace(what), f.Name+" (optional; Linux "):
				found = strings.TrimSpace(lines[i+1]) == f.Hint
			}
		}
		if !found {
			t.Errorf("nothing of %s in:\n%s", f.Name, out.String())
		}
	}
}

// TestCheckConfig: check says which configuration and which ids there are, and what is
// wrong with them.
func TestCheckConfig(t *testing.T) {
	if _, err := state.Defaults().Containers(); errors.Is(err, fs.ErrPermission) {
		t.Skip("looks for containers where root has made some, which takes root")
	}
	name := filepath.Join(t.TempDir(), "config.toml")
	t.Setenv("SYSBOX_CONFIG_FILE", name)
	for _, c := range []struct{ text, says, fails string }{
		{"ids.subid_user = \"nobody-has-this-name\"\nids.pool_start = 4000000000\nids.pool_size = 524288", "configuration: " + name + "\nids: 2 ranges of 262144 ids, the configured pool 4000000000-4000524287\n", ""},
		{"data_dri = \"\"", "", "data_dri is not a key; did you mean data_dir?"},
		{"ids.subid_user = \"\"\nids.pool_size = 524288", "configuration: " + name + "\n", "ids.pool_start 0"},
	} {
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		_, err := checkConfig(&out)
		if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %v; want %q", c.text, err, c.fails)
		}
		if out.String() != c.says {
			t.Errorf("%s: %q; want %q", c.text, out.String(), c.says)
		}
	}
}

// TestCheckOtherStateDir: containers that were made with another state_dir are told of.
func TestCheckOtherStateDir(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes a container, which takes root")
	}
	cfg, err := config.Load("")
	if err != nil {
		t.Fatal(err)
	}
	cfg.StateDir = t.TempDir()
	if err := try(t.Context(), slog.Default(), cfg); err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(cfg.StateDir, "containers/ns/c1.json")
	if err := os.MkdirAll(filepath.Dir(record), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if _, err := checkConfig(&out); err != nil || !strings.Contains(out.String(), "another state_dir: "+cfg.StateDir+", containers recorded: 1\n") {
		t.Errorf("%v: %q", err, out.String())
	}
}
