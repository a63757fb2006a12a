// SPDX-License-Identifier: Apache-2.0

// Package tests holds what is true of the sources as a whole.
//
// What does not belong here: tests of what the program does, which are in its
// packages and in package e2e.
package tests

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sources calls f with every Go file of the repository.
func sources(t *testing.T, f func(name string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return filepath.SkipDir
		}
		if filepath.Ext(p) != ".go" {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f(p, b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// notBuilt tells whether a file is a program of its own, for go generate.
func notBuilt(text []byte) bool {
	return bytes.Contains(text[:min(len(text), 200)], []byte("\n//go:build ignore\n"))
}

// TestPackageComments: every package says once what it is for and what does
// not belong in it.
func TestPackageComments(t *testing.T) {
	docs := map[string][]string{}
	sources(t, func(name string, text []byte) {
		if notBuilt(text) {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		pkg := filepath.Dir(name)
		if _, ok := docs[pkg]; !ok {
			docs[pkg] = nil
		}
		if f.Doc != nil {
			docs[pkg] = append(docs[pkg], f.Doc.Text())
		}
	})
	for pkg, d := range docs {
		if len(d) != 1 {
			t.Errorf("%s has %d package comments, want 1", pkg, len(d))
			continue
		}
		if !strings.Contains(strings.Join(strings.Fields(d[0]), " "), "not belong") {
			t.Errorf("%s does not say what does not belong in it", pkg)
		}
	}
}

// TestFileSizes: a file holds one idea.
func TestFileSizes(t *testing.T) {
	sources(t, func(name string, text []byte) {
		generated := bytes.Contains(text[:min(200, len(text))], []byte("DO NOT EDIT"))
		limit := 600
		if strings.HasSuffix(name, "/main.go") && strings.Contains(name, "/cmd/") {
			limit = 20
		}
		if n := bytes.Count(text, []byte("\n")); n > limit && !generated {
			t.Errorf("%s has %d lines, more than %d", name, n, limit)
		}
	})
}

// TestLicenceHeaders: each Go file says its licence in its first line, but for those that a
// program writes.
func TestLicenceHeaders(t *testing.T) {
	sources(t, func(name string, text []byte) {
		if !bytes.HasPrefix(text, []byte("// SPDX-License-Identifier: Apache-2.0\n\n")) && !bytes.Contains(text[:min(len(text), 200)], []byte("DO NOT EDIT")) && !strings.Contains(name, "/testdata/") {
			t.Errorf("%s: begin it with // SPDX-License-Identifier: Apache-2.0", name)
		}
	})
}
