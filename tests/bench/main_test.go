// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"sysbox/tests/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, func() error {
		_, _, err := defaultPath()
		return err
	}, m.Run))
}
