// SPDX-License-Identifier: Apache-2.0

// Package seccomp compiles the seccomp profile of an OCI spec to a classic BPF filter, without
// libseccomp, and extends the profile of a system container.
//
// If several entries of a profile name the same call, the first unconditional one applies, as
// with libseccomp. Of several conditional entries that hold, the strictest action wins;
// libseccomp has no rule for that which could be documented.
//
// What does not belong here: installing filters (package process writes the call, package sys has
// one for threads), answering notifications (package trap), and the numbers of system calls
// (package syscalls).
package seccomp
