// SPDX-License-Identifier: Apache-2.0

// Package process starts the processes of a container and follows them to their end.
//
// [Init] and [Exec] write the program that becomes init, or a further process. A program is a
// plain list of system calls (package program). Writing one needs nothing from the kernel, so the
// golden files in testdata show everything that a child does. [Files] collects the open files
// that a program gets, and [Stdio] the first three of them. [Start] runs a program; [Setup] reads
// its reports, and turns a failed step into an error that names the field of the spec. When the
// program has executed a file of the container, [New] makes a [Process] of it, which can be
// signalled and waited for.
//
// Each program has two stages. Stage 1 runs in the host's namespaces with the host's credentials:
// it raises limits, takes on the id that owns the container's user namespace, and clones stage 2
// into the container. Stage 2 joins the cgroups, enters the remaining namespaces, takes on the
// identity of the process, and ends in execve. Init waits twice on its sync pipe: until the mount
// tree is complete, and until Start.
//
// What does not belong here: the life of a container (package runtime), its plan (package plan),
// how a program is compiled and executed (package program), and its mounts (package mount).
package process
