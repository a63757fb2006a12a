// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxSocket bounds the path of a socket, including the final NUL (unix(7)).
const maxSocket = 108

// checkListener checks a profile that needs an agent to answer (SCMP_ACT_NOTIFY). Without
// such an action the agent is ignored, as the spec requires.
func checkListener(s *specs.LinuxSeccomp, p *Plan) error {
	if s == nil {
		return nil
	}
	const field = "linux.seccomp.listenerPath"
	if s.ListenerMetadata != "" && s.ListenerPath == "" {
		return invalid("linux.seccomp.listenerMetadata", s.ListenerMetadata, "listenerPath is empty", "set it to the socket of the agent, or remove listenerMetadata")
	}
	notified := slices.ContainsFunc(s.Syscalls, func(c specs.LinuxSyscall) bool { return c.Action == specs.ActNotify })
	handsOver := slices.ContainsFunc(s.Syscalls, func(c specs.LinuxSyscall) bool {
		return c.Action == specs.ActNotify && slices.Contains(c.Names, "sendmsg")
	})
	switch {
	case s.DefaultAction != specs.ActNotify && !notified:
		return nil
	case p.System:
		return invalid("linux.seccomp", "SCMP_ACT_NOTIFY", "the kernel allows one listener per process, and in a system container this runtime uses it",
			"create an ordinary container (SYSBOX_SYSCONT_MODE=FALSE in its environment) or use another action")
	case s.ListenerPath == "":
		return invalid("linux.seccomp", "SCMP_ACT_NOTIFY", "it needs listenerPath", "set it to the socket of the agent, or use another action")
	case !path.IsAbs(s.ListenerPath) || len(s.ListenerPath) >= maxSocket:
		return invalid(field, s.ListenerPath, "it must be an absolute path of at most 107 bytes", "")
	case s.DefaultAction == specs.ActNotify || handsOver:
		return invalid("linux.seccomp", "SCMP_ACT_NOTIFY", "it covers sendmsg, which the process needs to send its listener to the agent", "use another action for sendmsg and by default")
	}
	return nil
}
