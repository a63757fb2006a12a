// SPDX-License-Identifier: Apache-2.0

// Package plan turns an OCI runtime spec and facts about the host into a
// [Plan]: a plain value that describes all that the runtime will do for a
// container. [Make] is pure and deterministic: it does not ask the kernel, so
// its results can be golden files.
//
// Make either honours a spec or rejects it: it uses every field of runtime-spec
// 1.3, or returns a [ValidationError] that names the field, its value and a hint,
// or adds a warning to [Plan.Warnings]. TestEveryFieldIsAccountedFor keeps the
// list. The changes of this project to the spec of a system container are one
// list of named rules, in system.go.
//
// What does not belong here: system calls, reading of files, the choice of id
// ranges (package uidmap), and how a plan is carried out (the packages rootfs,
// mount, process, cgroup, seccomp and hooks).
package plan
