package runtime

import (
	"os"
	"path/filepath"
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
		{"\nmodules = \"dummy\"", []string{"line 2: modules"}},
		{`state_dir = "run"`, []string{"state_dir", `"run"`, "absolute"}},
		{`unshifted_binds = "no"`, []string{"unshifted_binds", `"no"`, `"warn" or "refuse"`}},
		{"[ids]\nrange_size = 1000", []string{"ids.range_size", "1000", "65536"}},
		{"\n[ids]\nnonsense = 1", []string{"line 3: ids.nonsense is no key", "docs/configuration.md"}},
	} {
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadConfig()
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
