// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"embed"
	"os/exec"
	"strings"
	"testing"
)

// scripts are for shells in containers, and for those beside Docker.
//
//go:embed testdata/*.sh
var scripts embed.FS

// file is the text of a script, for sh -c.
func file(name string) string {
	b, err := scripts.ReadFile("testdata/" + name)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestScripts: every script can be parsed, and ends at the first command that fails.
func TestScripts(t *testing.T) {
	list, err := scripts.ReadDir("testdata")
	if err != nil || len(list) == 0 {
		t.Fatalf("%d scripts: %v", len(list), err)
	}
	for _, e := range list {
		text := file(e.Name())
		if first, _, _ := strings.Cut(text, "\n"); first != "set -eu" {
			t.Errorf("%s begins with %q", e.Name(), first)
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", "-c", text).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", e.Name(), err, out)
		}
	}
}
