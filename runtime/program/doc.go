// SPDX-License-Identifier: Apache-2.0

// Package program runs a list of system calls as a process of its own.
//
// A [Program] is a plain value. It prints as a listing ([Program.String], which golden files and
// error messages use), and compiles to a static ELF of one or two kilobytes ([Program.Compile]):
// an interpreter of some fifty instructions, the calls, and their data. So a process that enters
// a container holds no memory, file or code of the shim beyond the list. Code is mapped read-only
// and executable, data is writable, and nothing is both.
//
// [Start] puts the image into a sealed memfd and executes it in a new process. Before that, the
// process shares the caller's memory, as with vfork, for the launch calls: they pass the
// descriptors asked for, mark all others close-on-exec, reset signals, and call execveat. They
// run in the caller's namespaces, where no container can see them. The program itself runs in
// memory of its own.
//
// Two facts together keep a container's root out of a child of the shim that has entered its user
// namespace (attack_test.go). First, the memory belongs to the host's user namespace, because the
// memfd was executed there, and a fork copies that. Second, the memory is not dumpable
// ([Prelude]). For such memory the kernel demands CAP_SYS_PTRACE in the memory's user namespace
// for ptrace, /proc/PID/mem, exe and fd, process_vm_readv and pidfd_getfd. Without the second
// fact the first does not help: the kernel would check only the process's credentials, over which
// the container's root has its capabilities. The protection ends with the program's execve, so
// everything must be close-on-exec. It does not keep signals out: a child could be stopped, so
// [Child.Next] and [Process.WaitUntil] take a deadline.
//
// A program reports its progress on a pipe: a record for each [Report], and a record with index
// and errno when a call fails. End of file means that all processes that held the pipe have
// executed something else or ended. [Child.Next] reads the records.
//
// What does not belong here: what a container's programs do (package process), and wrappers for
// calls that Go itself makes (package sys).
package program
