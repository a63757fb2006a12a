// Package plan turns an OCI runtime spec and facts about the host into a
// [Plan]: a plain value that says everything that will be done for a container
// and nothing that will not. [Make] is pure and deterministic: it asks the
// kernel nothing, so its answers can be golden files.
//
// A spec is either honoured or refused: every field of runtime-spec 1.3 is
// used, refused with a [Refusal] that names the field, its value and the way
// out, or answered with a note in [Plan.Notes]. TestEveryFieldIsAccountedFor
// keeps the list. What this project changes in the spec of a system container
// is one list of named rules, in system.go.
//
// What does not belong here: system calls, reading of files, the choice of id
// ranges (package uidmap), and how a plan is carried out (the packages rootfs,
// mount, process, cgroup, seccomp and hooks).
package plan
