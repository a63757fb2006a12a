package main

import (
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
		{"skipped in CI", `{"Action":"pass","Package":"p","Test":"S"}` + "\n" + `{"Action":"skip","Package":"p","Test":"T"}`, "skip p T\n     which it may not do here\n1 passed, 0 failed, 1 skipped\n", true, false},
		{"skipped as expected", `{"Action":"pass","Package":"p","Test":"S"}` + "\n" + `{"Action":"skip","Package":"p","Test":"Known"}`, "skip p Known\n1 passed, 0 failed, 1 skipped\n", true, true},
		{"no test at all", ``, "0 passed, 0 failed, 0 skipped\n", false, false},
		{"a package that does not build", `{"Action":"fail","Package":"p"}`, "FAIL p\n0 passed, 0 failed, 0 skipped\n", false, false},
	} {
		var out strings.Builder
		if ok := summarize(strings.NewReader(c.in), &out, map[bool]map[string]string{true: {"p Known": "why"}}[c.strict]); ok != c.ok || out.String() != c.want {
			t.Errorf("%s: %v, %q", c.name, ok, out.String())
		}
	}
}
