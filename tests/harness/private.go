// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"flag"
	"os"
	"testing"

	"sysbox/tests/peers"
	"sysbox/tests/private"
)

// Main is for the TestMain of tests that run the shim's program under containerd and other
// callers. It calls run, which is m.Run or calls it, by [private.Run]; before, outside, it
// calls prepare, which gets what takes the network (nil: nothing), and builds the program.
// With -short and without root, where each test says why it skips, the tests just run.
func Main(m *testing.M, prepare func() error, run func() int) int {
	flag.Parse()
	if testing.Short() || os.Getuid() != 0 {
		return m.Run()
	}
	return private.Run(func() error {
		if prepare != nil {
			if err := prepare(); err != nil {
				return err
			}
		}
		return peers.PrepareShim()
	}, run)
}
