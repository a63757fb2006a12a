// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"slices"
	"testing"
)

// TestLabelOptions: a label with commas, as callers and the kernel write it, is one option.
func TestLabelOptions(t *testing.T) {
	t.Parallel()
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	got := splitOptions(`rw,context="` + label + `",lowerdir=/a:/b,upperdir=/c,workdir=/d,xino=off`)
	want := []string{`context="` + label + `"`, "lowerdir=/a:/b", "upperdir=/c", "workdir=/d", "xino=off"}
	if !slices.Equal(got, want) {
		t.Errorf("split: %q, want %q", got, want)
	}
	for text, want := range map[string][]string{
		`lowerdir=/a"b,upperdir=/c,context="x,y"`: {`lowerdir=/a"b`, "upperdir=/c", `context="x,y"`},
		`context="x,y`:                {`context="x`, "y"},
		`context="x"z,,workdir=/d`:    {`context="x"`, "z", "workdir=/d"},
		`rw,rootcontext=x,lowerdir="`: {"rootcontext=x", `lowerdir="`},
		"":                            nil,
	} {
		if got := splitOptions(text); !slices.Equal(got, want) {
			t.Errorf("split %q: %q, want %q", text, got, want)
		}
	}
}
