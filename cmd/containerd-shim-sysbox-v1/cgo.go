// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

// A binary that is built with cgo needs the C library of the machine that it was built on:
// elsewhere it does not start. So it does not link; go vet and gopls do not mind. The name is
// what the linker prints.
func set_CGO_ENABLED_0_or_run_make_build()

func init() { set_CGO_ENABLED_0_or_run_make_build() }
