package upstream

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"sysbox/tests/peers"
)

var update = flag.Bool("update", false, "write the README's rows of the suites")

const readme = "../../README.md"

// row is what the README says of a suite. The suites' own tests show that it is so.
func (e expectations) row(name string) string {
	count := map[string]int{}
	for test, x := range e.but {
		if !strings.Contains(test, "/") {
			count[x.result]++
		}
	}
	pass := e.tests - count["FAIL"] - count["SKIP"] - count[notRun]
	s := fmt.Sprintf("| %s | %d of %d pass, %d fail, %d skip", name, pass, e.tests, count["FAIL"], count["SKIP"])
	if n := count[notRun]; n > 0 {
		s += fmt.Sprintf(", %d are not run", n)
	}
	return s + ": [why](tests/upstream/expected.go) | `tests/upstream` |"
}

// TestReadme: the README's figures are those of the lists.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for name, e := range map[string]expectations{
		"containerd " + peers.Newest + "'s own client suite": ofClient,
		"containerd " + peers.OldStart + "'s own CRI suite":  ofCRI,
	} {
		found := false
		for i, line := range lines {
			if !strings.HasPrefix(line, "| "+name+" |") {
				continue
			}
			found = true
			if want := e.row(name); line != want && *update {
				lines[i] = want
			} else if line != want {
				t.Errorf("the README says\n%s\nand the lists of what is expected (go test ./tests/upstream -run TestReadme -update)\n%s", line, want)
			}
		}
		if !found {
			t.Errorf("the README has no row of %s", name)
		}
	}
	if *update {
		if err := os.WriteFile(readme, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
