package runtime

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime/feature"
	"sysbox/runtime/plan"
)

// TestSameWords: what a container's log says of a feature that the kernel lacks is what
// check says of it.
func TestSameWords(t *testing.T) {
	for name, said := range map[string]string{
		"binfmt_misc of a user namespace's own": plan.NoBinfmt,
		"overlay over idmapped layers":          feature.NoIDMappedOverlay,
	} {
		found := false
		for _, f := range feature.All {
			if f.Name == name {
				found = true
				if f.WayOut != said {
					t.Errorf("%s: check says %q, the log %q", name, f.WayOut, said)
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
	if got, want := hostFacts().BinfmtMiscNS, exists(binfmtMisc) && feature.OwnBinfmt() == nil; got != want {
		t.Errorf("the fact is %v, the kernel makes one: %v", got, want)
	}
}

// TestTooOld: a Create that fails where no container can start says that, in one line.
func TestTooOld(t *testing.T) {
	bundle := busybox(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/no-such", Options: []string{"bind"}})
	}, "true")
	old := startable
	defer func() { startable = old }()
	startable = func() error { return errors.New("use Linux 5.12 or newer") }
	if _, err := testPod(t, "pod").Create(t.Context(), CreateRequest{ID: "c1", Bundle: bundle}); err == nil || err.Error() != "use Linux 5.12 or newer" {
		t.Errorf("on a kernel that is too old: %v", err)
	}
	startable = old
	if _, err := testPod(t, "pod").Create(t.Context(), CreateRequest{ID: "c1", Bundle: bundle}); err == nil || !strings.Contains(err.Error(), "/no-such") {
		t.Errorf("on this kernel: %v", err)
	}
}
