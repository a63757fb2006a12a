// SPDX-License-Identifier: Apache-2.0

// Package trap answers system calls that the kernel refuses in a user namespace although software
// needs them. Seccomp hands such a call over to the shim (seccomp_unotify(2)), and a handler
// answers it.
//
// The kernel guards; traps only add. If no handler has a better answer, the call continues and
// the kernel decides as if the shim had not looked. So a handler that reads the caller's memory
// must never conclude from it that a call is harmless. A handler grants something only to a
// caller in the container's first user namespace, and only for the capabilities that the caller
// has there. A caller in any other user namespace gets the kernel's own answer.
//
// A call takes this path: [Server.Serve] receives a [notification]. The [handlers] table names
// its handler. The handler gets a [caller], whose process directory it opens before it checks
// anything. It works on copies and open files, if necessary on a thread that has the caller's
// root and ids ([worker]), and returns a [response]. Files and mounts are made by a process in
// the container's cgroups ([worker.run]), where the kernel accounts for their memory.
//
// What does not belong here: the profile that the spec asks for (package seccomp), how the filter
// gets into the process (package process), and emulated files of /proc and /sys.
package trap
