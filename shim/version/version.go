// SPDX-License-Identifier: Apache-2.0

// Package version says what this program is called and which one it is.
//
// What does not belong here: what the program can do (package features).
package version

// Version is that of CHANGELOG.md; a package may set another at link time: -ldflags
// "-X sysbox/shim/version.Version=…".
var Version = "0.2.0-dev"

// Revision is the commit of the source, set at link time; "" if it is not known.
var Revision = ""

// Name is the runtime's name in containerd, from which it derives the name of
// the binary.
const Name = "io.containerd.sysbox.v1"
