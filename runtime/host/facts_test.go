// SPDX-License-Identifier: Apache-2.0

package host

import (
	"testing"

	"sysbox/runtime/feature"
	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
)

// TestSameWords: what a container's log says of a feature that the kernel lacks is what
// check says of it.
func TestSameWords(t *testing.T) {
	for name, said := range map[string]string{
		"binfmt_misc of each user namespace": plan.NoBinfmt,
		"overlay over idmapped layers":       feature.NoIDMappedOverlay,
	} {
		found := false
		for _, f := range feature.All {
			if f.Name == name {
				found = true
				if f.Hint != said {
					t.Errorf("%s: check says %q, the log %q", name, f.Hint, said)
				}
			}
		}
		if !found {
			t.Errorf("check has no %q", name)
		}
	}
}

// TestBinfmtFact: the fact is what the kernel does.
func TestBinfmtFact(t *testing.T) {
	if got, want := Facts().BinfmtMiscNS, sys.Exists(binfmtMisc) && feature.OwnBinfmt() == nil; got != want {
		t.Errorf("the fact is %v, the kernel makes one: %v", got, want)
	}
}
