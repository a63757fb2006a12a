package plan

import (
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxSocket is how long the path of a socket may be, the ending NUL included (unix(7)).
const maxSocket = 108

// checkListener checks a profile whose answers an agent gives (SCMP_ACT_NOTIFY). Without
// such an action the agent is ignored, as the spec demands.
func checkListener(s *specs.LinuxSeccomp, p *Plan) error {
	if s == nil {
		return nil
	}
	const field = "linux.seccomp.listenerPath"
	if s.ListenerMetadata != "" && s.ListenerPath == "" {
		return refuse("linux.seccomp.listenerMetadata", s.ListenerMetadata, "there is no listenerPath", "give the agent's socket, or remove it")
	}
	notified := slices.ContainsFunc(s.Syscalls, func(c specs.LinuxSyscall) bool { return c.Action == specs.ActNotify })
	handsOver := slices.ContainsFunc(s.Syscalls, func(c specs.LinuxSyscall) bool {
		return c.Action == specs.ActNotify && slices.Contains(c.Names, "sendmsg")
	})
	switch {
	case s.DefaultAction != specs.ActNotify && !notified:
		return nil
	case p.System:
		return refuse("linux.seccomp", "SCMP_ACT_NOTIFY", "the kernel allows a process one listener, and a system container's is this runtime's",
			"make the container an ordinary one (SYSBOX_SYSCONT_MODE=FALSE in its environment), or use another action")
	case s.ListenerPath == "":
		return refuse("linux.seccomp", "SCMP_ACT_NOTIFY", "without listenerPath nobody would be notified", "give the agent's socket, or use another action")
	case !path.IsAbs(s.ListenerPath) || len(s.ListenerPath) >= maxSocket:
		return refuse(field, s.ListenerPath, "it must be an absolute path of at most 107 bytes", "give the agent's socket by such a path")
	case s.DefaultAction == specs.ActNotify || handsOver:
		return refuse("linux.seccomp", "SCMP_ACT_NOTIFY", "it covers sendmsg, by which the process hands its listener over", "use another action for sendmsg and by default")
	}
	return nil
}
