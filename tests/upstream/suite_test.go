// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// suite is a test program of containerd's, and what is expected of it.
type suite struct {
	name, version string
	folder        string // that it runs in, and its binary is in
	args, env     []string
	expectations
}

// run runs the suite and compares each verdict with what is expected. A test without a
// verdict is a failure as well: one that was not run shows nothing.
func (s suite) run(t *testing.T) {
	t.Helper()
	pattern := os.Getenv(only)
	var args []string
	if pattern != "" {
		args = append(args, "-test.run="+pattern)
	}
	all := s.list(t, pattern)
	if out := s.leftOut(); len(out) > 0 {
		args = append(args, "-test.skip=^("+strings.Join(out, "|")+")$")
	}
	got := s.execute(t, s.name, append(args, "-test.v"))
	s.again(t, got)
	counts := map[string]int{}
	for name, r := range got {
		if !strings.Contains(name, "/") {
			counts[r.result]++
		}
		want, listed := s.but[name]
		switch {
		case !listed && r.result != "PASS":
			t.Errorf("%s: %s\n%s", name, r.result, r.output)
		case listed && r.result != want.result:
			t.Errorf("%s: %s, which is not what is expected of it: %s (%s); mend the list\n%s", name, r.result, want.result, want.why, r.output)
		}
	}
	for _, name := range all {
		if got[name].result == "" && s.but[name].result != notRun {
			t.Errorf("%s has no verdict", name)
		}
	}
	for name, want := range s.but {
		if pattern == "" && got[name].result == "" && (want.result != notRun || !slices.Contains(all, name)) {
			t.Errorf("%s is expected to %s, and was not run", name, want.result)
		}
	}
	t.Logf("figure: containerd %s's %s suite: %d tests pass, %d fail, %d skip", s.version, s.name, counts["PASS"], counts["FAIL"], counts["SKIP"])
	if pattern == "" && len(all) != s.tests {
		t.Errorf("the suite has %d tests, and the list of what is expected is of %d", len(all), s.tests)
	}
}

// leftOut are the tests that are not run.
func (s suite) leftOut() []string {
	var names []string
	for name, e := range s.but {
		if e.result == notRun {
			names = append(names, name)
		}
	}
	return names
}

func (s suite) command(t *testing.T, args []string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(s.folder, "suite.test"), append(args, s.args...)...)
	cmd.Dir, cmd.Env = s.folder, s.env
	return cmd
}

// tests are the names of what -test.run runs: fuzz tests run their seeds.
var tests = regexp.MustCompile(`^(Test|Fuzz|Example)\w*\s*$`)

// list are the tests of a pattern.
func (s suite) list(t *testing.T, pattern string) []string {
	t.Helper()
	if pattern == "" {
		pattern = "."
	}
	pattern, _, _ = strings.Cut(pattern, "/")
	out, err := s.command(t, []string{"-test.list=" + pattern}).CombinedOutput()
	if err != nil {
		t.Fatalf("list the suite's tests: %v\n%s", err, out)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if tests.MatchString(line) {
			names = append(names, strings.TrimSpace(line))
		}
	}
	if len(names) == 0 {
		t.Skipf("the suite has no test of the pattern %s", pattern)
	}
	return names
}

// again runs racy tests anew that have failed, and puts their verdicts in the place of
// the old ones.
func (s suite) again(t *testing.T, got map[string]result) {
	t.Helper()
	for name, how := range s.racy {
		for n := 1; got[name].result == "FAIL" && n <= 2; n++ {
			t.Logf("figure: %s failed (it %s), and is run again", name, how)
			for test := range got {
				if strings.HasPrefix(test, name+"/") {
					delete(got, test)
				}
			}
			maps.Copy(got, s.execute(t, fmt.Sprintf("%s.%s.%d", s.name, name, n), []string{"-test.v", "-test.run=^" + name + "$"}))
		}
	}
}

// execute runs the tests and returns their verdicts. log is the end of the name of a file
// with all that they say, if one is wanted.
func (s suite) execute(t *testing.T, log string, args []string) map[string]result {
	t.Helper()
	cmd := s.command(t, args)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	results, all := read(pipe)
	// 1 says that tests fail, as some are expected to; a panic and a timeout are 2.
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		t.Errorf("the suite ended with: %v\n%s", err, all[max(0, len(all)-8000):])
	}
	if name := os.Getenv("TEST_UPSTREAM_LOG"); name != "" {
		if err := os.WriteFile(name+"."+log, []byte(all), 0o600); err != nil {
			t.Error(err)
		}
	}
	return results
}

type result struct{ result, output string }

var verdict = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(`)

// read collects what each test says, from its start to its verdict. What subtests say is
// their test's, too.
func read(r io.Reader) (map[string]result, string) {
	results := map[string]result{}
	var all strings.Builder
	said := map[string]*strings.Builder{}
	current := ""
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := s.Text()
		fmt.Fprintln(&all, line)
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "===" {
			current, _, _ = strings.Cut(fields[2], "/")
		}
		if m := verdict.FindStringSubmatch(line); m != nil {
			current, _, _ = strings.Cut(m[2], "/")
			results[m[2]] = result{m[1], ""}
		}
		if said[current] == nil {
			said[current] = &strings.Builder{}
		}
		if said[current].Len() < 1<<14 {
			fmt.Fprintln(said[current], line)
		}
	}
	if s.Err() != nil {
		fmt.Fprintln(&all, s.Err())
		_, _ = io.Copy(&all, r)
	}
	for name, r := range results {
		test, _, _ := strings.Cut(name, "/")
		r.output = said[test].String()
		results[name] = r
	}
	return results, all.String()
}
