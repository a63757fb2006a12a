// SPDX-License-Identifier: Apache-2.0

package harness_test

import (
	"os"
	"testing"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, func() error {
		if _, err := peers.Containerd(peers.Newest); err != nil {
			return err
		}
		_, err := images.Busybox()
		return err
	}, m.Run))
}
