// SPDX-License-Identifier: Apache-2.0

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		strict, ok     bool
	}{
		{"passed", `{"Action":"pass","Package":"p","Test":"T"}`, "1 passed, 0 failed, 0 skipped\n", true, true},
		{"passed, with a figure", `{"Action":"output","Package":"p","Test":"T","Output":"    x_test.go:1: figure: 7 apples\n"}` + "\n" + `{"Action":"output","Package":"p","Test":"T","Output":"no figure\n"}` + "\n" + `{"Action":"pass","Package":"p","Test":"T"}`, "     7 apples\n1 passed, 0 failed, 0 skipped\n", true, true},
		{"failed, with what it said", `{"Action":"output","Package":"p","Test":"T","Output":"why\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"T"}`, "FAIL p T\nwhy\n0 passed, 1 failed, 0 skipped\n", false, false},
		{"skipped at home", `{"Action":"pass","Package":"p","Test":"S"}` + "\n" + `{"Action":"skip","Package":"p","Test":"T"}`, "skip p T\n1 passed, 0 failed, 1 skipped\n", false, true},
		{"skipped in CI", `{"Action":"pass","Package":"p","Test":"S"}` + "\n" + `{"Action":"skip","Package":"p","Test":"T"}`, "skip p T\nFAIL p T: it may not skip here\n1 passed, 0 failed, 1 skipped\n", true, false},
		{"skipped as expected", `{"Action":"pass","Package":"p","Test":"S"}` + "\n" + `{"Action":"skip","Package":"p","Test":"Known"}`, "skip p Known\n1 passed, 0 failed, 1 skipped\n", true, true},
		{"no test at all", ``, "0 passed, 0 failed, 0 skipped\n", false, false},
		{"a package that does not build", `{"Action":"fail","Package":"p"}`, "FAIL p\n0 passed, 0 failed, 0 skipped\n", false, false},
	} {
		var expected map[string]string
		if c.strict {
			expected = map[string]string{"p Known": "why"}
		}
		var out strings.Builder
		if ok := summarize(strings.NewReader(c.in), &out, expected); ok != c.ok || out.String() != c.want {
			t.Errorf("%s: %v, %q", c.name, ok, out.String())
		}
	}
}

// TestSkipsOfTheMachine: whoever skips because it is for the virtual machine alone may
// skip in CI, which has none; a test that forgets to say so here fails CI only at its end.
func TestSkipsOfTheMachine(t *testing.T) {
	found := map[string]bool{}
	err := filepath.WalkDir("../..", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && !strings.HasPrefix(d.Name(), ".."):
			return filepath.SkipDir
		case !strings.HasSuffix(p, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, 0)
		if err != nil {
			return err
		}
		pkg := "sysbox" + strings.TrimPrefix(filepath.ToSlash(filepath.Dir(p)), "../..")
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) == 0 {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != "Skip" {
					return true
				}
				if why, ok := call.Args[0].(*ast.BasicLit); ok && strings.Contains(why.Value, "(tests/vm)") {
					found[pkg+" "+fn.Name.Name] = true
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 3 {
		t.Errorf("found no more than %d tests that are for the virtual machine: %v", len(found), found)
	}
	for test := range found {
		if expectedSkips[test] == "" {
			t.Errorf("%s skips in CI; expectedSkips in main.go does not say so", test)
		}
	}
}
