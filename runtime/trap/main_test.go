// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"fmt"
	"os"
	"testing"

	"sysbox/runtime/trap"
	"sysbox/tests/testcontainer"
)

// Tests that unmount without MNT_DETACH what a trapped call has mounted do not run beside others:
// a child that another test starts has, until its execve, the files of this process by which the
// mount was made, and the kernel calls it busy.

func TestMain(m *testing.M) {
	if text := os.Getenv(trap.CallersEnv); text != "" {
		if err := trap.Callers(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(testcontainer.Main(m))
}
