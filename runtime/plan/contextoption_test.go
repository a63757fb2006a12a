// SPDX-License-Identifier: Apache-2.0

package plan

import "testing"

// TestContextOption: a label comes to fsconfig(2) without the quotes that mount(2) wants.
func TestContextOption(t *testing.T) {
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	for option, want := range map[string]string{
		`context="` + label + `"`: "context=" + label,
		"context=" + label:        "context=" + label,
		`rootcontext="a"`:         "rootcontext=a",
		`context="`:               `context="`,
	} {
		if got, ok := ContextOption(option); !ok || got != want {
			t.Errorf("%s is %q, %v; want %q", option, got, ok, want)
		}
	}
	if got, ok := ContextOption(`size="1"`); ok || got != `size="1"` {
		t.Errorf("another option: %q, %v", got, ok)
	}
}
