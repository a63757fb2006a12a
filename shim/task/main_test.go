// SPDX-License-Identifier: Apache-2.0

package task

import (
	"os"
	"testing"

	"sysbox/tests/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m, "")) }
