// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sysbox/tests/peers"
)

// row is how docs/status.md begins its row of a suite. The suites' own tests show that it is
// true.
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
	return s + ": [why]"
}

// TestStatusRows: the numbers of docs/status.md are those of the lists.
func TestStatusRows(t *testing.T) {
	b, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]expectations{
		"the client suite of containerd " + peers.Newest: ofClient,
		"the CRI suite of containerd " + peers.OldStart:  ofCRI,
	} {
		if want := e.row(name); !strings.Contains(string(b), want) {
			t.Errorf("docs/status.md does not say %q, as expected.go does: change tests/status_rows_test.go, and run go test ./tests -run TestStatus -update", want)
		}
	}
}
