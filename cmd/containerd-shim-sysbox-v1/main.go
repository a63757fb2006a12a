// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-sysbox-v1 is the containerd shim and runtime of
// system containers. Everything it does is in package shim; anything else does
// not belong here.
package main

import (
	"os"

	"sysbox/shim"
)

func main() {
	os.Exit(shim.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
