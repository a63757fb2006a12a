package harness

import (
	"sysbox/tests/peers"
	"sysbox/tests/private"
)

// Private is [private.Run] for tests of the shim's program, which it builds outside, as
// prepare does what else takes the network.
func Private(prepare func() error, run func() int) int {
	return private.Run(func() error {
		if prepare != nil {
			if err := prepare(); err != nil {
				return err
			}
		}
		return peers.PrepareShim()
	}, run)
}
