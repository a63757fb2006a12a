// SPDX-License-Identifier: Apache-2.0

// Package version says what this program is called and which one it is.
//
// What does not belong here: what the program can do (package features).
package version

// Version is set at link time: -ldflags "-X sysbox/shim/version.Version=…".
var Version = "dev"

// Revision is the source's commit, set like Version; "" if that is not known.
var Revision = ""

// Name is the runtime's name in containerd, from which it derives the name of
// the binary.
const Name = "io.containerd.sysbox.v1"
