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
	"regexp"
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

// TestPackageComments: every package says once what it is for and what does
// not belong in it.
func TestPackageComments(t *testing.T) {
	docs := map[string][]string{}
	sources(t, func(name string, text []byte) {
		if bytes.HasPrefix(text, []byte("//go:build ignore")) {
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

// TestThreatModel: each attack of the threat model names tests, and each of these is there,
// in the package that it is said to be in.
func TestThreatModel(t *testing.T) {
	model, err := os.ReadFile("../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]map[string]bool{} // tests by package
	sources(t, func(name string, text []byte) {
		pkg := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), "../")
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(text, -1) {
			if has[pkg] == nil {
				has[pkg] = map[string]bool{}
			}
			has[pkg][string(m[1])] = true
		}
	})
	for line := range strings.Lines(string(model)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || strings.Trim(cells[1], " #-") == "" {
			continue
		}
		pkg, tests := "runtime", 0
		for _, m := range regexp.MustCompile("`([a-z0-9/]+)`|\\b(?:Test|Fuzz)\\w+").FindAllStringSubmatch(cells[4], -1) {
			if m[1] != "" {
				pkg = m[1]
				continue
			}
			tests++
			if !has[pkg][m[0]] {
				t.Errorf("attack%sis tested by %s of package %s, which is not there", cells[1], m[0], pkg)
			}
		}
		if tests == 0 {
			t.Errorf("attack%shas no test", cells[1])
		}
	}
}
