// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/shim/features"
)

// TestEveryField: each field of the specification's types has a row, or lies in a section
// that is refused as a whole; and no row is of a field that there is not.
func TestEveryField(t *testing.T) {
	rows := map[string]bool{}
	whole := map[string]bool{}
	for _, r := range Table() {
		rows[r.Field] = true
		if r.Refused != "" && r.Want == "" && r.Case == "" {
			whole[r.Field] = true
		}
	}
	known := map[string]bool{}
	var walk func(v reflect.Type, path string)
	walk = func(v reflect.Type, path string) {
		known[path] = true
		switch v.Kind() {
		case reflect.Pointer:
			walk(v.Elem(), path)
			return
		case reflect.Slice:
			if v.Elem().Kind() == reflect.Struct || strings.HasPrefix(v.Elem().PkgPath(), "github.com/opencontainers") {
				walk(v.Elem(), path+"[]")
				return
			}
		case reflect.Map:
			if v.Elem().Kind() == reflect.Struct {
				walk(v.Elem(), path+"{}")
				return
			}
		case reflect.Struct:
			if whole[path] || whole[strings.TrimSuffix(path, "{}")] {
				return
			}
			for f := range v.Fields() {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				sub := strings.TrimPrefix(path+"."+name, ".")
				if f.Anonymous {
					sub = path
				}
				walk(f.Type, sub)
			}
			return
		}
		if !rows[path] && !rows[strings.TrimSuffix(path, "[]")] {
			t.Errorf("%s has no row", path)
		}
	}
	walk(reflect.TypeFor[specs.Spec](), "")
	for field := range rows {
		if r := (Row{Field: field}); !r.promise() && !known[field] && !known[field+"[]"] {
			t.Errorf("there is no field %s", field)
		}
	}
}

// TestEveryValue: each value that the specification's package names, and each mount option
// and capability set that the shim says it knows, has a row.
func TestEveryValue(t *testing.T) {
	var cases []string
	for _, r := range Table() {
		cases = append(cases, strings.FieldsFunc(r.Case, func(c rune) bool { return c == ' ' || c == ',' })...)
	}
	for _, o := range features.Supported().MountOptions {
		if !slices.Contains(cases, o) {
			t.Errorf("the mount option %s has no row", o)
		}
	}
	for _, k := range features.Supported().Hooks {
		if !slices.ContainsFunc(hookKinds, func(h struct {
			name, status, namespace string
			of                      func(*specs.Hooks) *[]specs.Hook
		},
		) bool {
			return h.name == k
		}) {
			t.Errorf("hooks of the kind %s have no row", k)
		}
	}
	values := specValues(t)
	for _, v := range values {
		if !slices.Contains(cases, v) {
			t.Errorf("%s has no row", v)
		}
	}
	if len(values) < 70 {
		t.Errorf("only %d values found", len(values))
	}
}

// specValues are the values of config.json for Linux that the specification's package
// names as constants.
func specValues(t *testing.T) []string {
	t.Helper()
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("reads the specification's package, which takes the go command to find")
	}
	dir, err := exec.Command(goTool, "list", "-m", "-f", "{{.Dir}}", "github.com/opencontainers/runtime-spec").Output()
	must(t, err)
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "specs-go/config.go"), nil, 0)
	must(t, err)
	var out []string
	ast.Inspect(f, func(x ast.Node) bool {
		v, ok := x.(*ast.ValueSpec)
		if !ok || v.Type == nil || len(v.Values) == 0 {
			return true
		}
		lit, ok := v.Values[0].(*ast.BasicLit)
		kind := v.Type.(*ast.Ident).Name
		if !ok || strings.HasPrefix(kind, "ZOS") || strings.HasPrefix(kind, "FreeBSD") {
			return true
		}
		value, err := strconv.Unquote(lit.Value)
		must(t, err)
		out = append(out, value)
		return true
	})
	return out
}

// TestRows: a row says what it looks at and what must be seen.
func TestRows(t *testing.T) {
	for _, r := range Table() {
		looks := r.Ask != "" || r.Look != ""
		if r.how(func(string) string { return "x" }) == "" || !looks && r.Refused+r.Fails == "" || r.Want != "" && !looks {
			t.Errorf("%s (%s) is not whole", r.Field, r.Case)
		}
	}
}

// TestDocuments: docs/compatibility.md has the table, and docs/status.md its sum.
func TestDocuments(t *testing.T) {
	text, err := os.ReadFile("../../docs/compatibility.md")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), Begin)
	if got, _, _ := strings.Cut(rest, End); got != Document() {
		t.Error("docs/compatibility.md is not of this table: run go run ./tests/compatibility -specification")
	}
	if text, err = os.ReadFile("../../docs/status.md"); err != nil || !strings.Contains(string(text), Counts()) {
		t.Errorf("docs/status.md does not say %q (%v): change tests/status_rows_test.go, and run go test ./tests -run TestStatus -update", Counts(), err)
	}
}
