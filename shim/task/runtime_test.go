// SPDX-License-Identifier: Apache-2.0

package task

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sysbox/runtime"
)

// TestConfigurationMended: a Create that the configuration refuses is no end of the pod: the
// next one reads it again, and those after it have that one.
func TestConfigurationMended(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config.toml")
	t.Setenv("SYSBOX_CONFIG_FILE", name)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &pod{log: slog.Default(), namespace: "ns", sandbox: "pod"}
	write("data_dri = \"\"\n")
	if _, err := p.Create(t.Context(), "", runtime.CreateRequest{}); err == nil || !strings.Contains(err.Error(), "data_dri is not a key") {
		t.Fatalf("the broken one gave %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("closed before there is anything: %v", err)
	}
	state := t.TempDir()
	write("state_dir = \"" + state + "\"\n")
	first, err := p.open("")
	if err != nil || p.cfg.StateDir != state {
		t.Fatalf("the mended one gave %v, and state_dir %q", err, p.cfg.StateDir)
	}
	write("[")
	if again, err := p.open(""); err != nil || again != first {
		t.Errorf("the next gave %v, another pod: %v", err, again != first)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
