// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mark = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchor is the name by which a link finds a heading.
func anchor(heading string) string {
	return strings.ReplaceAll(mark.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// TestDocumentLinks: each link from a document to another file, or to a heading, finds it.
func TestDocumentLinks(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../.github/*.md"} {
		f, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f...)
	}
	links := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			to, heading, hasHeading := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			links++
			target := f
			if to != "" {
				target = filepath.Join(filepath.Dir(f), to)
			}
			b, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s links to %s: %v", f, m[1], err)
				continue
			}
			found := !hasHeading
			for _, s := range sections(string(b)) {
				found = found || s.heading != "" && anchor(s.heading) == heading
			}
			if !found {
				t.Errorf("%s links to %s: %s has no such heading", f, m[1], target)
			}
		}
	}
	if links < 40 {
		t.Errorf("%d links found, want 40 or more", links)
	}
}
