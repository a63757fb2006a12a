// SPDX-License-Identifier: Apache-2.0

package conformance

import "strings"

// outsideHow are the ways of looking from outside, by the first word of [Row.Look], in
// the document's words.
var outsideHow = map[string]string{
	"cgroup":      "the cgroup's file",
	"mounts":      "`/proc/PID/mountinfo`",
	"cgroup-word": "the cgroup's file",
	"weight":      "the cgroup's file",
	"notes":       "the shim's log",
	"state":       "a hook's standard input",
	"hook":        "a hook writes down how it was run",
	"order":       "hooks write down their order",
	"namespace":   "`/proc/PID/ns` compared with the host's",
	"cpus":        "sched_getaffinity(2) from outside",
	"sched":       "sched_getattr(2) from outside",
	"ioprio":      "ioprio_get(2) from outside",
	"agent":       "a seccomp agent",
	"filter":      "ptrace(2), PTRACE_SECCOMP_GET_METADATA",
	"update":      "an update of the limit",
	"before":      "`/proc/PID/cmdline`",
	"start":       "done twice",
	"create":      "done twice",
	"kill":        "the exit status",
	"delete":      "nothing is left",
}

// how says how a row is looked at.
func (r *Row) how(inside func(string) string) string {
	word, _, _ := strings.Cut(r.Look, " ")
	switch {
	case r.Ask != "":
		return inside(r.Ask)
	case r.Look != "":
		return outsideHow[word]
	case r.Fails != "":
		return "the error of Create"
	}
	return "the refusal's text"
}
