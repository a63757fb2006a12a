package shim

import (
	"os"
	"strings"
	"testing"

	"sysbox/runtime/feature"
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
			case answer == "no" && strings.HasPrefix(strings.TrimSpace(what), f.Name+" (since Linux "):
				found = strings.TrimSpace(lines[i+1]) == f.WayOut
			}
		}
		if !found {
			t.Errorf("nothing of %s in:\n%s", f.Name, out.String())
		}
	}
}
