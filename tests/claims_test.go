// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// testIndex says where tests are: the packages of a name, as directories below the
// repository's root, and the sources of each package's tests.
type testIndex struct {
	packages map[string][]string
	sources  map[string]string
}

var testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)

func indexTests(t *testing.T) testIndex {
	t.Helper()
	x := testIndex{map[string][]string{}, map[string]string{}}
	sources(t, func(name string, text []byte) {
		if !strings.HasSuffix(name, "_test.go") {
			return
		}
		pkg := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), "../")
		x.sources[pkg] += string(text)
		for _, m := range testFunction.FindAllSubmatch(text, -1) {
			if n := string(m[1]); !slices.Contains(x.packages[n], pkg) {
				x.packages[n] = append(x.packages[n], pkg)
			}
		}
	})
	return x
}

// A reference is the name of a test in a document.
type reference struct {
	pkg    string // "" for any
	name   string
	prefix bool   // "TestCRI…": all tests whose names begin so
	sub    string // the beginning of a subtest's name, "" for none
}

func (r reference) String() string { return strings.TrimSpace(r.pkg + " " + r.name) }

// find returns the packages that have the test, or the reason why none counts.
func (x testIndex) find(r reference) ([]string, error) {
	var in []string
	for _, name := range slices.Sorted(maps.Keys(x.packages)) {
		if name == r.name || r.prefix && strings.HasPrefix(name, r.name) {
			in = append(in, x.packages[name]...)
		}
	}
	slices.Sort(in)
	in = slices.Compact(in)
	switch {
	case len(in) == 0:
		return nil, fmt.Errorf("no package has the test %s", r.name)
	case r.pkg != "" && !slices.Contains(in, r.pkg):
		return nil, fmt.Errorf("the test %s is in %s, not in %s", r.name, strings.Join(in, ", "), r.pkg)
	case r.sub != "" && !slices.ContainsFunc(in, func(pkg string) bool { return strings.Contains(x.sources[pkg], r.sub) }):
		return nil, fmt.Errorf("the package of %s has no subtest %q", r.name, r.sub)
	}
	return in, nil
}

var (
	referenceForm = regexp.MustCompile("(?:`([a-z0-9/]+)` )?\\b((?:Test|Fuzz|Benchmark)[A-Z]\\w*)(…)?(?:/([a-z][^,;|`…<()\n]*))?")
	// between stands between two tests of one package: "`runtime` TestA, TestB and TestC".
	between = regexp.MustCompile(`^…?(?: \([^)|]*\))?(?:,| and|, and)\s+$`)
)

// references are the tests that a text names. A test belongs to the package in backticks
// before it, or before the list that it is in; without one, to whichever has it.
func references(text string) []reference {
	var out []reference
	end := 0
	for _, m := range referenceForm.FindAllStringSubmatchIndex(text, -1) {
		group := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return text[m[2*i]:m[2*i+1]]
		}
		if group(2) == "TestX" { // stands for any test
			continue
		}
		r := reference{pkg: group(1), name: group(2), prefix: group(3) != "", sub: strings.TrimSpace(group(4))}
		if n := len(out); r.pkg == "" && n > 0 && between.MatchString(text[end:m[0]]) {
			r.pkg = out[n-1].pkg
		}
		out, end = append(out, r), m[1]
	}
	return out
}

// documents are the Markdown files whose claims name their tests, with their texts. What a
// program wrote into them, between "made by" and "end of", is not part of these.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range append(files, "../README.md", "../CONTRIBUTING.md") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(f, "../")] = generated.ReplaceAllString(string(b), "")
	}
	return out
}

var generated = regexp.MustCompile(`(?s)<!-- [a-z ]+: made by .*?<!-- end of [a-z ]+ -->`)

// TestNamedTests: each test that a document names exists, in the package that is named
// with it, if one is.
func TestNamedTests(t *testing.T) {
	x := indexTests(t)
	for name, text := range documents(t) {
		for _, r := range references(text) {
			if _, err := x.find(r); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

var (
	command = regexp.MustCompile(`-run '?\^?(Test\w+)`)
	target  = regexp.MustCompile(`\./([a-z0-9/]+)(\.\.\.)?`)
)

// TestNamedCommands: "go test -run TestX ./pkg" in a document finds the test.
func TestNamedCommands(t *testing.T) {
	x := indexTests(t)
	for name, text := range documents(t) {
		for line := range strings.Lines(text) {
			m := command.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			for _, p := range target.FindAllStringSubmatch(line, -1) {
				if strings.Contains(p[1], "tests/vm/run") {
					continue
				}
				in := func(pkg string) bool { return pkg == p[1] || p[2] != "" && strings.HasPrefix(pkg+"/", p[1]) }
				found := false
				for test, pkgs := range x.packages {
					found = found || strings.HasPrefix(test, m[1]) && slices.ContainsFunc(pkgs, in)
				}
				if !found {
					t.Errorf("%s: %s has no test %s: %s", name, p[0], m[1], strings.TrimSpace(line))
				}
			}
		}
	}
}

var namedFile = regexp.MustCompile(`(?:^|[^\w/.-])((?:runtime|shim|uidmap|tests|cmd)/\w[\w/.-]*\w)`)

// TestNamedFiles: each file and package that a document names exists.
func TestNamedFiles(t *testing.T) {
	for name, text := range documents(t) {
		for _, m := range namedFile.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat("../" + m[1]); err != nil && m[1] != "runtime/view" { // which is to come
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// claiming are the documents of which each section names a test, or says why it has none:
//
//	<!-- test: TestSystemd, TestInner/a nested -->
//	<!-- no test: it tells how to send a change -->
//
// Not among them are those of which each row names one, and what tells how to work on this.
func claiming(name string) bool {
	return !slices.Contains([]string{"CONTRIBUTING.md", "docs/threat-model.md", "docs/system-calls.md", "docs/status.md"}, name)
}

var noTest = regexp.MustCompile(`<!-- no test: \S[^>]+ -->`)

// TestClaims: each section of the documents names a test that shows what it says.
func TestClaims(t *testing.T) {
	for name, text := range documents(t) {
		if !claiming(name) {
			continue
		}
		for _, s := range sections(text) {
			if strings.TrimSpace(s.text) != "" && len(references(s.text)) == 0 && !noTest.MatchString(s.text) {
				t.Errorf("%s, %q: name a test that shows it (<!-- test: TestX -->), or say why there is none (<!-- no test: why -->)", name, s.heading)
			}
		}
	}
}

// A section is what stands below a heading and above the next one.
type section struct{ heading, text string }

func sections(text string) []section {
	out := []section{{}}
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if level := len(line) - len(strings.TrimLeft(line, "#")); !fenced && level > 0 && strings.HasPrefix(line[level:], " ") {
			out = append(out, section{heading: strings.TrimSpace(line[level:])})
			continue
		}
		out[len(out)-1].text += line
	}
	return out
}

// TestThreatModel: each attack of the threat model names a test, and with it the package if
// several have a test of that name: none may go unnoticed.
func TestThreatModel(t *testing.T) {
	x := indexTests(t)
	rows := 0
	for line := range strings.Lines(documents(t)["docs/threat-model.md"]) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || strings.Trim(cells[1], " #-") == "" {
			continue
		}
		rows++
		refs := references(cells[4])
		if len(refs) == 0 {
			t.Errorf("attack%snames no test", cells[1])
		}
		times := map[string]int{}
		for _, r := range refs {
			times[r.name]++
		}
		for _, r := range refs {
			if in, err := x.find(r); err == nil && r.pkg == "" && len(in) != times[r.name] {
				t.Errorf("attack%snames %s %d times, and it is in %s: say which, or name each", cells[1], r.name, times[r.name], strings.Join(in, " and "))
			}
		}
	}
	if rows < 40 {
		t.Errorf("the threat model has %d rows that can be read, want 40 or more", rows)
	}
}

// TestReferences: what is read of a text.
func TestReferences(t *testing.T) {
	for text, want := range map[string]string{
		"TestA": "[TestA]",
		"`runtime/plan` TestA, TestB and FuzzC; TestD": "[runtime/plan TestA runtime/plan TestB runtime/plan FuzzC TestD]",
		"`runtime` TestA (i386), TestB":                "[runtime TestA runtime TestB]",
		"in `runtime/kill`: see TestA":                 "[TestA]",
		"<!-- test: TestA/a word or two, TestB -->":    "[TestA TestB]",
		"go test -run TestX ./pkg":                     "[]",
		"no Tests, no Testing and no Fuzz":             "[]",
	} {
		if got := fmt.Sprint(references(text)); got != want {
			t.Errorf("%q names %s, want %s", text, got, want)
		}
	}
	x := testIndex{map[string][]string{"TestCRIPod": {"tests/e2e"}}, map[string]string{"tests/e2e": `{"a pod of two"}`}}
	for _, c := range []struct {
		of   string
		want string
	}{
		{"TestCRIPod", ""},
		{"TestCRI…", ""},
		{"`tests/e2e` TestCRIPod/a pod", ""},
		{"TestCRI", "no package has the test TestCRI"},
		{"`runtime` TestCRIPod", "the test TestCRIPod is in tests/e2e, not in runtime"},
		{"TestCRIPod/a pod of three", `the package of TestCRIPod has no subtest "a pod of three"`},
	} {
		_, err := x.find(references(c.of)[0])
		if got := cmp.Or(err, fmt.Errorf("")).Error(); got != c.want {
			t.Errorf("%s: %q, want %q", c.of, got, c.want)
		}
	}
}
