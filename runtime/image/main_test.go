// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"os"
	"testing"

	"sysbox/tests/testcontainer"
)

func TestMain(m *testing.M) { os.Exit(testcontainer.Main(m)) }
