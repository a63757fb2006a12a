// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTable: the table of handlers, docs/system-calls.md and the list of privileges agree on
// which calls are answered, and on the capabilities that each of them takes.
func TestTable(t *testing.T) {
	table := map[string]bool{}
	for _, h := range handlers {
		table[h.name] = true
	}
	tried := privilegedCalls(t)
	documented := map[string]bool{}
	for _, section := range answeredCalls(t) {
		var want []string
		for _, name := range section.calls {
			documented[name] = true
			want = append(want, tried[name]...)
			if !table[name] {
				t.Errorf("docs/system-calls.md has the call %s, the table of handlers has not", name)
			}
		}
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(section.capabilities, want) {
			t.Errorf("docs/system-calls.md says that %v take %v, the list of privileges %v", section.calls, section.capabilities, want)
		}
	}
	// sysinfo grants nothing, and move_mount moves only what open_tree has returned.
	unprivileged := []string{"sysinfo", "move_mount"}
	for name := range table {
		if !documented[name] {
			t.Errorf("the table of handlers has the call %s, docs/system-calls.md has no heading for it", name)
		}
		if _, ok := tried[name]; ok == slices.Contains(unprivileged, name) {
			t.Errorf("%s is in the list of privileges: %t", name, ok)
		}
	}
	for name := range tried {
		if !table[name] {
			t.Errorf("the list of privileges has the call %s, the table of handlers has not", name)
		}
	}
}

// answered is a section of docs/system-calls.md.
type answered struct {
	calls, capabilities []string // as named there; the capabilities sorted
}

// answeredCalls are the sections below "Answered by the shim".
func answeredCalls(t *testing.T) (out []answered) {
	t.Helper()
	b, err := os.ReadFile("../../docs/system-calls.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## Answered by the shim\n")
	text, _, ok2 := strings.Cut(text, "\n## ")
	if !ok || !ok2 {
		t.Fatal("docs/system-calls.md has no chapter of answered calls")
	}
	capability := regexp.MustCompile(`CAP_[A-Z_]+`)
	for _, section := range strings.Split(text, "\n### ")[1:] {
		heading, body, _ := strings.Cut(section, "\n")
		for _, part := range []string{"Used by", "Capability", "Answer", "Why it is safe", "Tests"} {
			if !strings.Contains(body, "\n- **"+part+":** ") {
				t.Errorf("docs/system-calls.md, %q: there is no %q", heading, part)
			}
		}
		_, line, _ := strings.Cut(body, "- **Capability:** ")
		line, _, _ = strings.Cut(line, "\n- **")
		caps := capability.FindAllString(line, -1)
		slices.Sort(caps)
		names, _, _ := strings.Cut(heading, ":")
		out = append(out, answered{strings.Split(names, ", "), slices.Compact(caps)})
	}
	return out
}

// privilegedCalls are the calls in the list of privileges of TestTrapPrivileges, and the
// capabilities without which it expects the kernel's own answer.
func privilegedCalls(t *testing.T) map[string][]string {
	t.Helper()
	granted := map[string][]string{} // calls, by caller
	for _, pattern := range []string{"*_test.go", "../*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			if o := parsed.Scope.Lookup("privileges"); o != nil && o.Kind == ast.Var {
				rows := o.Decl.(*ast.ValueSpec).Values[0].(*ast.CompositeLit)
				for _, row := range rows.Elts {
					fields := row.(*ast.CompositeLit).Elts
					granted[literal(t, fields[0])] = strings.Fields(literal(t, fields[1]))
				}
			}
		}
	}
	if len(granted["root"]) == 0 {
		t.Fatal("the list of privileges was not found")
	}
	out := map[string][]string{}
	for _, key := range granted["root"] {
		name, _, _ := strings.Cut(key, "-")
		if key == "bind" || key == "overlay" {
			name = "mount"
		}
		for caller, calls := range granted {
			if c, reduced := strings.CutPrefix(caller, "root without "); reduced && !slices.Contains(calls, key) {
				out[name] = append(out[name], c)
			}
		}
	}
	return out
}

func literal(t *testing.T, e ast.Expr) string {
	t.Helper()
	text, err := strconv.Unquote(e.(*ast.BasicLit).Value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
