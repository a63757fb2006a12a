// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"bytes"
	"strings"
	"testing"

	"sysbox/shim"
	"sysbox/shim/admin"
)

// TestCommands: each command is told of by -help, and by the error of an action that is none,
// which is no command itself.
func TestCommands(t *testing.T) {
	var help, out, errs bytes.Buffer
	if code := shim.Main([]string{"shim", "-help"}, strings.NewReader(""), &out, &help); code != 0 || out.Len() > 0 {
		t.Errorf("-help: exit code %d, %q", code, out.String())
	}
	if code := shim.Main([]string{"shim", "restart"}, strings.NewReader(""), &out, &errs); code != 1 || out.Len() > 0 {
		t.Errorf("restart: exit code %d, %q", code, out.String())
	}
	seen := map[string]bool{}
	for _, c := range admin.Commands {
		line := "\n  containerd-shim-sysbox-v1 " + c.Name + " "
		if _, rest, ok := strings.Cut(help.String(), line); !ok || !strings.HasPrefix(strings.TrimLeft(rest, " "), c.Summary+"\n") {
			t.Errorf("-help does not have %q and %q:\n%s", line, c.Summary, help.String())
		}
		if found, ok := admin.Find(c.Name); !ok || found.Summary != c.Summary || seen[c.Name] {
			t.Errorf("%s is found: %v, for the second time: %v", c.Name, ok, seen[c.Name])
		}
		seen[c.Name] = true
	}
	if want := "you can run " + admin.Names() + "; see -help"; !strings.Contains(errs.String(), want) || admin.Names() != "check and reclaim" {
		t.Errorf("%q does not have %q", errs.String(), want)
	}
}
