// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/status.md")

const statusHead = `# Status

Early: this is what the tests show today. The page is generated from tests/status_rows_test.go
(` + "`go test ./tests -run TestStatus -update`" + `). CI fails if the two differ, or if a test that
is named here is gone.

What stays the same from version to version is the binary: its configuration, annotations,
variables and the files that it keeps. The Go packages promise nothing.
<!-- test: TestLastVersion -->
`

// shownBy is the last cell of a row: the tests by package, then other evidence.
func shownBy(x testIndex, f feature) (string, error) {
	names := map[string][]string{}
	var pkgs []string
	for _, r := range references(f.tests) {
		in, err := x.find(r)
		if err != nil {
			return "", err
		}
		pkg := r.pkg
		switch {
		case pkg != "":
		case slices.Contains(in, "tests/e2e"): // what goes through a caller says most to a user
			pkg = "tests/e2e"
		case len(in) == 1:
			pkg = in[0]
		default:
			return "", fmt.Errorf("%s is in %s: say which", r.name, strings.Join(in, " and "))
		}
		if !slices.Contains(pkgs, pkg) {
			pkgs = append(pkgs, pkg)
		}
		names[pkg] = append(names[pkg], r.name)
	}
	var cell []string
	for _, pkg := range pkgs {
		cell = append(cell, fmt.Sprintf("`%s` %s", pkg, strings.Join(names[pkg], ", ")))
	}
	if f.also != "" {
		cell = append(cell, f.also)
	}
	return strings.Join(cell, "; "), nil
}

// TestStatus: docs/status.md is what the table says, and the tests in it exist.
func TestStatus(t *testing.T) {
	const file = "../docs/status.md"
	x := indexTests(t)
	text := strings.Builder{}
	text.WriteString(statusHead)
	for _, s := range status {
		fmt.Fprintf(&text, "\n## %s\n\n| feature | state | shown by |\n|---|---|---|\n", s.heading)
		for _, f := range s.rows {
			cell, err := shownBy(x, f)
			if err != nil {
				t.Errorf("%s: %v", f.what, err)
			}
			if cell == "" && !strings.HasPrefix(f.state, "not yet") && !strings.HasPrefix(f.state, "refused") {
				t.Errorf("%s: nothing shows it", f.what)
			}
			fmt.Fprintf(&text, "| %s | %s | %s |\n", f.what, f.state, cell)
		}
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != text.String() {
		t.Errorf("%s is not what the table says (%v): run go test ./tests -run TestStatus -update", file, err)
	}
}
