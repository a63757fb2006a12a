// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hookKinds in the order in which they run, with the state that their container is in
// and where they run.
var hookKinds = []struct {
	name, status, namespace string
	of                      func(*specs.Hooks) *[]specs.Hook
}{
	{"prestart", "creating", "the host's", func(h *specs.Hooks) *[]specs.Hook { return &h.Prestart }}, //nolint:staticcheck // still in use
	{"createRuntime", "creating", "the host's", func(h *specs.Hooks) *[]specs.Hook { return &h.CreateRuntime }},
	{"createContainer", "creating", "the container's", func(h *specs.Hooks) *[]specs.Hook { return &h.CreateContainer }},
	{"startContainer", "created", "the container's", func(h *specs.Hooks) *[]specs.Hook { return &h.StartContainer }},
	{"poststart", "running", "the host's", func(h *specs.Hooks) *[]specs.Hook { return &h.Poststart }},
	{"poststop", "stopped", "the host's", func(h *specs.Hooks) *[]specs.Hook { return &h.Poststop }},
}

// HookName is what the program that writes down how it was run as a hook is called as.
const HookName = "hook"

// logHooks gives the container two hooks of each kind, which write down in the bundle's
// folder "log" how they were run. The test fills in the program's path on the host.
func logHooks(s *specs.Spec) {
	s.Hooks = &specs.Hooks{}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/log", Type: "bind", Source: "log", Options: []string{"bind"}})
	for _, k := range hookKinds {
		for i := range 2 {
			h := specs.Hook{Path: ownProgram, Args: []string{HookName, k.name, fmt.Sprint(i)}, Env: []string{"HOOK=" + k.name}, Timeout: ptr(20)}
			if k.name == "startContainer" {
				h.Path = "/bin/inside"
			}
			*k.of(s.Hooks) = append(*k.of(s.Hooks), h)
		}
	}
}

// hookRows are the fields of hooks.
func hookRows() []Row {
	var rows []Row
	for _, k := range hookKinds {
		f := "hooks." + k.name + "[]."
		see := func(field, kase, look, want string) {
			rows = append(rows, Row{Field: f + field, Case: kase, Box: "hooks", Look: look, Want: want})
		}
		see("path", "", "hook "+k.name+" runs", "2")
		see("path", "its namespaces", "hook "+k.name+" network", k.namespace)
		see("args", "", "hook "+k.name+" args", "hook "+k.name+" 0")
		see("env", "", "hook "+k.name+" env", "HOOK="+k.name)
		set := func(h specs.Hook) func(*specs.Spec) {
			return func(s *specs.Spec) {
				s.Hooks = &specs.Hooks{}
				*k.of(s.Hooks) = []specs.Hook{h}
			}
		}
		refused := func(field, kase string, h specs.Hook, message string) {
			rows = append(rows, Row{Field: f + field, Case: kase, Set: set(h), Refused: message})
		}
		refused("path", "relative", specs.Hook{Path: "hook"}, "hooks."+k.name+`[0].path is "hook": it must be an absolute path`)
		refused("timeout", "0", specs.Hook{Path: "/hook", Timeout: ptr(0)}, "hooks."+k.name+`[0].timeout is "0": it must be above 0; set a number of seconds or remove it`)
		fails := func(field, kase string, h specs.Hook, message string) {
			rows = append(rows, Row{Field: f + field, Case: kase, Set: set(h), Fails: message})
		}
		busybox := specs.Hook{Path: "/bin/busybox", Args: []string{"sh", "-c", "echo no luck >&2; exit 3"}}
		rows = append(rows, Row{Field: f + "path", Case: "that says more than a pipe holds", Set: set(specs.Hook{
			Path: "/bin/busybox", Args: []string{"sh", "-c", "/bin/busybox yes | /bin/busybox head -c 200000 >&2"}, Timeout: ptr(20),
		}), Box: "system:loud-" + k.name, Look: "delete", Want: "works"})
		slow := specs.Hook{Path: "/bin/busybox", Args: []string{"sleep", "1000"}, Timeout: ptr(1)}
		switch k.name {
		case "poststart":
			rows = append(rows, Row{Field: f + "path", Case: "that fails", Set: set(busybox), Box: "system:" + k.name, Look: "notes hook", Want: "hook #1 of poststart /bin/busybox: exit status 3: no luck", Note: "logged, as the specification says"},
				Row{Field: f + "timeout", Case: "that is over", Set: set(slow), Box: "system:" + k.name + "-slow", Look: "notes hook", Want: "hook #1 of poststart /bin/busybox: killed after its timeout of 1s"})
		case "poststop":
			rows = append(rows, Row{Field: f + "path", Case: "that fails", Set: set(busybox), Box: "system:" + k.name, Look: "delete", Want: "works", Note: "the container is deleted all the same, as the specification says"},
				Row{Field: f + "timeout", Case: "that is over", Set: set(slow), Box: "system:" + k.name + "-slow", Look: "delete", Want: "works"})
		default:
			fails("path", "that fails", busybox, "hook #1 of "+k.name+" /bin/busybox: exit status 3: no luck")
			fails("timeout", "that is over", slow, "hook #1 of "+k.name+" /bin/busybox: killed after its timeout of 1s")
		}
	}
	// What hooks read on their standard input: runtime.md, State.
	for i, k := range hookKinds {
		state := func(name, want string) {
			rows = append(rows, Row{Field: "State", Case: k.name + ": " + name, Box: "hooks", Look: "state " + k.name + " " + name, Want: want})
		}
		state("ociVersion", `"`+specs.Version+`"`)
		state("id", `"c1"`)
		state("status", `"`+k.status+`"`)
		state("bundle", "the bundle")
		state("annotations", `{"org.example.key":"value"}`)
		if k.name != "poststop" {
			state("pid", "init's")
		}
		rows = append(rows, Row{Field: "Order of hooks", Case: k.name, Box: "hooks", Look: "order " + k.name, Want: fmt.Sprintf("%d %d", 2*i+1, 2*i+2)})
	}
	return rows
}
