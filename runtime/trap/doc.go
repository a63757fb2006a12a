// Package trap answers the system calls of a container that the kernel refuses
// in a user namespace and that software needs: seccomp hands the call over
// (seccomp_unotify(2)), a handler answers it.
//
// The kernel guards, traps only add: a call that no handler has a better answer
// for is let go on, and the kernel judges it as if nobody had looked. So a
// handler that reads the caller's memory never decides by it that a call is
// harmless. What a handler grants is tied to the container's first user
// namespace and to the capabilities that the caller has there; from any other
// one the kernel's own answer comes.
//
// The way of a call: [Server.Serve] receives a [notification], the [handlers] table
// finds its handler by name, the handler learns who calls from a [caller], which
// is pinned before it is checked, does its work on copies and on open files,
// where need be on a thread of its own with the caller's root and ids
// ([worker]), and returns a [verdict]. Files and mounts are made by a process in the
// container's cgroups ([worker.run]), where the kernel counts the memory that they are.
//
// What does not belong here: which profile the spec asks for (package seccomp),
// how the filter gets into the process (package process), emulated files of
// /proc and /sys.
package trap
