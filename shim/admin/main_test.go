// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"os"
	"testing"

	"sysbox/tests/leak"
	"sysbox/tests/peers"
)

func TestMain(m *testing.M) { os.Exit(leak.Prepared(peers.PrepareShim, m, "")) }
