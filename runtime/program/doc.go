// Package program runs a list of system calls as a process of its own.
//
// A [Program] is a plain value: it prints as a listing ([Program.String], the form of
// golden files and of error messages) and compiles to a static ELF of one or two
// kilobytes ([Program.Compile]): an interpreter of some fifty instructions, the calls,
// and their data. Nothing else of the caller is in it: what enters a container holds
// no memory, no file and no code of ours beyond the list. Code is mapped read-only and
// executable, data writable, nothing both.
//
// [Start] puts the image in a sealed memfd and executes it in two legs. The first
// shares the caller's memory, as vfork does, for a dozen calls that another list
// holds: pass the descriptors asked for, mark all others close-on-exec, reset signals,
// execveat. It runs in the caller's namespaces, where no container can see it. The
// second leg is the program proper, in memory of its own.
//
// Two facts together keep a container's root out of a child of ours that has entered
// its user namespace (attack_test.go): the memory's user namespace is the host's,
// because the memfd was executed there and a fork copies that; and the memory is not
// dumpable ([Prelude]). For memory that is not dumpable, the kernel demands
// CAP_SYS_PTRACE in the memory's user namespace for ptrace, /proc/PID/mem, exe and fd,
// process_vm_readv and pidfd_getfd. Without the second fact the first one counts for
// nothing: the process's credentials are then all that is checked, and over those root
// of the container has its capabilities. The protection ends with the program's
// execve, at which all that is close-on-exec must be. Signals it does not keep out: a
// child that is waited for can be stopped, so [Child.Next] and [Process.WaitUntil]
// take a deadline.
//
// A program says how it fares on the report pipe: a record for each [Report], a record
// with the call's index and its errno when a call fails, end of file when all that held
// the pipe have executed something else or ended. [Child.Next] reads them.
//
// What a container's programs consist of does not belong here (that is package
// process), nor do wrappers for calls that Go itself makes (package sys).
package program
