// SPDX-License-Identifier: Apache-2.0

package testcontainer

import "github.com/opencontainers/runtime-spec/specs-go"

// Hook puts a hook that runs a script in the place of one kind.
func Hook(kind, script string, timeout *int) *specs.Hooks {
	list := []specs.Hook{
		{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Timeout: timeout},
		{Path: "/bin/sh", Args: []string{"sh", "-c", "echo second hook >&2; exit 5"}, Env: []string{"PATH=/usr/bin:/bin"}},
	}
	h := &specs.Hooks{}
	switch kind {
	case "prestart":
		h.Prestart = list
	case "createRuntime":
		h.CreateRuntime = list
	case "createContainer":
		h.CreateContainer = list
	case "startContainer":
		h.StartContainer = list
	case "poststart":
		h.Poststart = list
	}
	return h
}
