// SPDX-License-Identifier: Apache-2.0

// Package pace is how often tests repeat what only repetition finds: less often in an
// emulated machine (command tests/vm), which is there for its kernel and some ten times
// slower.
//
// It is also how much longer a test waits, there and on a busy machine, before it gives up.
//
// What does not belong here: the machine (command tests/vm).
package pace

import (
	"os"
	"testing"
	"time"
)

// Variable is set in the emulated machine. A test passes it on to what it runs in a
// container, for which names with SYSBOX_ are the runtime's.
const Variable = "TEST_MACHINE"

// Machine tells whether the tests run in an emulated machine, which they have to themselves.
func Machine() bool { return os.Getenv(Variable) != "" }

// slower is how many times fewer rounds an emulated machine does.
const slower = 50

// Fewer is n, or in an emulated machine a part of it, but not less than least.
func Fewer(n, least int) int {
	if !Machine() {
		return n
	}
	return min(n, max(n/slower, least))
}

// Rounds is Fewer, and the test's log says it.
func Rounds(t testing.TB, n, least int) int {
	t.Helper()
	fewer := Fewer(n, least)
	if fewer != n {
		t.Logf("the machine is emulated: %d rounds, not %d", fewer, n)
	}
	return fewer
}

// Patience is by how much a deadline is to be multiplied that a test has only so that a
// hang ends, and that a machine of one's own would need: others may be at work on this one.
func Patience() time.Duration {
	if Machine() {
		return 8 // a test may be silent for ten minutes there (command tests/vm)
	}
	return 5
}

// Slower is how many times longer the programs of an emulated machine take, for what a
// test does at intervals: 1 on other machines.
func Slower() time.Duration {
	if Machine() {
		return 8
	}
	return 1
}
