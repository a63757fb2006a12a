// Package pace is how often tests repeat what only repetition finds: less often in an
// emulated machine (command tests/vm), which is there for its kernel and some ten times
// slower.
//
// What does not belong here: how long a test waits (package e2e's patience).
package pace

import (
	"os"
	"testing"
)

// Machine tells whether the tests run in an emulated machine, which they have to themselves.
func Machine() bool { return os.Getenv("SYSBOX_TEST_MACHINE") != "" }

// slower is how many times fewer rounds an emulated machine does.
const slower = 8

// Rounds is n, or fewer in an emulated machine, but least; the test's log says it.
func Rounds(t testing.TB, n, least int) int {
	t.Helper()
	if !Machine() {
		return n
	}
	fewer := min(n, max(n/slower, least))
	t.Logf("the machine is emulated: %d rounds, not %d", fewer, n)
	return fewer
}
