// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	example = regexp.MustCompile("Example: `(\\w+)`")
	path    = regexp.MustCompile("`([\\w.-]+(?:/[\\w.-]+)+)`")
)

// TestWhereToAdd: docs/where-to-add.md names files that exist, and the example of a list is
// in each file and in each test that a step of the list begins with.
func TestWhereToAdd(t *testing.T) {
	const doc = "docs/where-to-add.md"
	x := indexTests(t)
	examples := 0
	for _, s := range sections(documents(t)[doc]) {
		word := ""
		if m := example.FindStringSubmatch(s.text); m != nil {
			word = m[1]
			examples++
		}
		for _, p := range path.FindAllStringSubmatch(s.text, -1) {
			if _, err := os.Stat("../" + p[1]); err != nil && p[1] != "runtime/view" {
				t.Errorf("%s, %q: %v", doc, s.heading, err)
			}
		}
		steps := steps(s.text)
		if len(s.heading) > 2 && s.heading != "Where to add what" && len(steps) < 3 {
			t.Errorf("%s, %q: %d steps, want 3 or more", doc, s.heading, len(steps))
		}
		for _, step := range steps {
			what, _, _ := strings.Cut(step, ":")
			knows := word == ""
			for _, p := range path.FindAllStringSubmatch(what, -1) {
				b, err := os.ReadFile("../" + p[1])
				knows = knows || err == nil && strings.Contains(string(b), word)
			}
			for _, r := range references(what) {
				in, err := x.find(r)
				if err != nil {
					t.Error(err)
				}
				for _, pkg := range in {
					knows = knows || strings.Contains(x.sources[pkg], word)
				}
			}
			if !knows && !strings.Contains(what, "threat-model") {
				t.Errorf("%s, %q: nothing of %q is where step %q leads", doc, s.heading, word, what)
			}
		}
	}
	if examples < 3 {
		t.Errorf("%s has %d examples, want 3 or more", doc, examples)
	}
}

// steps are the numbered items of a list, each as one line.
func steps(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		number, rest, ok := strings.Cut(line, ". ")
		switch {
		case ok && number != "" && strings.Trim(number, "0123456789") == "":
			out = append(out, strings.TrimSpace(rest))
		case len(out) > 0 && strings.HasPrefix(line, "   "):
			out[len(out)-1] += " " + strings.TrimSpace(line)
		}
	}
	return out
}
