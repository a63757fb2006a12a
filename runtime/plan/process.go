// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Limits of the kernel.
const (
	maxArg  = 128 << 10 // MAX_ARG_STRLEN: 32 pages of 4 KiB, including the final NUL
	maxPath = 4096      // PATH_MAX, including the final NUL
	maxGIDs = 65536     // NGROUPS_MAX
	// noID is (uid_t) -1, which set*id(2) take for "leave as it is".
	noID = math.MaxUint32
	// minOOMScoreAdj is the lowest value for a system container: at -1000 the
	// kernel would never kill it, however much memory it uses.
	minOOMScoreAdj = -999
)

// MakeProcess plans a process of the container c: its init, or one that is added
// later, with the same policy for capabilities. terminal is what the caller asked
// for; it overrides p.Terminal, since the caller provides the terminal. It returns a
// [ValidationError] if p cannot be honoured.
func MakeProcess(p *specs.Process, terminal bool, c *Plan, f Facts) (*Process, error) {
	out, err := makeProcess(p, terminal, c, f)
	if err != nil {
		return nil, err
	}
	out.CPUs = c.ExecCPUs
	if a := p.ExecCPUAffinity; a != nil {
		if out.CPUs.Initial, err = parseCPUs("process.execCPUAffinity.initial", a.Initial); err != nil {
			return nil, err
		}
		if out.CPUs.Final, err = parseCPUs("process.execCPUAffinity.final", a.Final); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func makeProcess(p *specs.Process, terminal bool, c *Plan, f Facts) (*Process, error) {
	if p == nil {
		return nil, invalid("process", "", "the section is missing", "set process.args and process.cwd")
	}
	out := &Process{Args: slices.Clone(p.Args), Terminal: terminal, Personality: c.Process.Personality, MemoryPolicy: c.Process.MemoryPolicy}
	if p.Terminal != terminal {
		out.Warnings = append(out.Warnings, fmt.Sprintf("process.terminal is %v, but the request says %v: using the request", p.Terminal, terminal))
	}
	for _, step := range []func(*specs.Process, *Process, *Plan, Facts) error{
		checkProgram, processEnv, consoleSize, processUser, processLimits, processLabels, processScheduling,
	} {
		if err := step(p, out, c, f); err != nil {
			return nil, err
		}
	}
	out.Caps = processCaps(p.Capabilities, out.UID, c, f, &out.Warnings)
	out.NoNewPrivs = p.NoNewPrivileges
	if out.NoNewPrivs && c.System && c.LiftNoNewPrivs {
		out.NoNewPrivs = false
		out.Warnings = append(out.Warnings, "process.noNewPrivileges is true but not applied: settings.no_new_privileges.default is lift in the configuration")
	}
	return out, nil
}

func checkProgram(p *specs.Process, out *Process, _ *Plan, _ Facts) error {
	if len(p.Args) == 0 {
		return invalid("process.args", "", "it is empty", "set the program to run")
	}
	if p.Args[0] == "" {
		return invalid("process.args[0]", "", "the name of the program is empty", "set the program to run")
	}
	if p.CommandLine != "" {
		return invalid("process.commandLine", p.CommandLine, "it only applies to Windows", "use process.args")
	}
	for i, a := range p.Args {
		if err := checkString(item("process.args", i), a, maxArg); err != nil {
			return err
		}
	}
	if !path.IsAbs(p.Cwd) {
		return invalid("process.cwd", p.Cwd, "it must be an absolute path", `use for example "/"`)
	}
	out.Cwd = path.Clean(p.Cwd)
	return checkString("process.cwd", p.Cwd, maxPath)
}

func checkString(field, s string, limit int) error {
	if len(s) >= limit {
		return invalid(field, s, fmt.Sprintf("it has %d bytes, but the kernel accepts fewer than %d", len(s), limit), "shorten it")
	}
	return noNUL(field, s)
}

// processEnv checks the environment. If a name occurs twice it keeps the last value:
// getenv(3) of some C libraries finds the first, of others the last.
func processEnv(p *specs.Process, out *Process, _ *Plan, _ Facts) error {
	env, err := stripVariables(p.Env, func(string, string) {})
	if err != nil {
		return err
	}
	last := map[string]int{}
	for i, e := range env {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" {
			return invalid("process.env", e, "it must have the form NAME=VALUE", "")
		}
		if err := checkString("process.env "+name, e, maxArg); err != nil {
			return err
		}
		last[name] = i
	}
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if last[name] == i {
			out.Env = append(out.Env, e)
		}
	}
	return nil
}

func consoleSize(p *specs.Process, out *Process, _ *Plan, _ Facts) error {
	if p.ConsoleSize == nil || !out.Terminal {
		return nil // runtime-spec: ignored without a terminal
	}
	w, h := p.ConsoleSize.Width, p.ConsoleSize.Height
	if w > math.MaxUint16 || h > math.MaxUint16 {
		return invalid("process.consoleSize", fmt.Sprintf("%dx%d", w, h), "a terminal has at most 65535 columns and rows", "use a smaller size")
	}
	out.Width, out.Height = uint16(w), uint16(h)
	return nil
}

func processUser(p *specs.Process, out *Process, c *Plan, _ Facts) error {
	u := p.User
	if u.Username != "" {
		return invalid("process.user.username", u.Username, "it only applies to Windows", "use process.user.uid and gid")
	}
	if len(u.AdditionalGids) > maxGIDs {
		return invalid("process.user.additionalGids", fmt.Sprint(len(u.AdditionalGids), " groups"), "the kernel accepts at most 65536", "use fewer")
	}
	if u.Umask != nil {
		if *u.Umask > 0o777 {
			return invalid("process.user.umask", fmt.Sprintf("%#o", *u.Umask), "it is more than 0777", "use permission bits only")
		}
		umask := *u.Umask
		out.Umask = &umask
	}
	out.UID, out.GID, out.AdditionalGIDs = u.UID, u.GID, slices.Clone(u.AdditionalGids)
	return c.checkUser(out)
}

// checkUser rejects invalid ids and, if the mappings are known, ids without a
// mapping.
func (p *Plan) checkUser(proc *Process) error {
	if err := checkID("process.user.uid", proc.UID, p.IDs.UID); err != nil {
		return err
	}
	for i, g := range append([]uint32{proc.GID}, proc.AdditionalGIDs...) {
		field := "process.user.gid"
		if i > 0 {
			field = item("process.user.additionalGids", i-1)
		}
		if err := checkID(field, g, p.IDs.GID); err != nil {
			return err
		}
	}
	return nil
}

// rlimits are the numbers of setrlimit(2) (asm-generic/resource.h; the same on
// amd64 and arm64).
var rlimits = map[string]int{
	"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3,
	"RLIMIT_CORE": 4, "RLIMIT_RSS": 5, "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7,
	"RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10, "RLIMIT_SIGPENDING": 11,
	"RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}

func processLimits(p *specs.Process, out *Process, c *Plan, _ Facts) error {
	seen := map[int]bool{}
	for i, l := range p.Rlimits {
		field := item("process.rlimits", i)
		n, ok := rlimits[l.Type]
		if !ok {
			return invalid(field+".type", l.Type, "Linux has no such limit", "supported: "+strings.Join(sortedKeys(rlimits), ", "))
		}
		if seen[n] {
			return invalid(field+".type", l.Type, "it occurs twice", "list each limit once")
		}
		seen[n] = true
		if l.Soft > l.Hard {
			return invalid(field, fmt.Sprintf("%s soft %d hard %d", l.Type, l.Soft, l.Hard), "the soft limit is above the hard limit", "lower it")
		}
		out.Rlimits = append(out.Rlimits, Rlimit{Type: n, Name: l.Type, Soft: l.Soft, Hard: l.Hard})
	}
	if p.OOMScoreAdj == nil {
		return nil
	}
	adj := *p.OOMScoreAdj
	if adj < -1000 || adj > 1000 {
		return invalid("process.oomScoreAdj", fmt.Sprint(adj), "it must be between -1000 and 1000", "")
	}
	if c.System && adj < minOOMScoreAdj {
		out.Warnings = append(out.Warnings, fmt.Sprintf("process.oomScoreAdj raised from %d to %d: a system container cannot be exempt from the OOM killer", adj, minOOMScoreAdj))
		adj = minOOMScoreAdj
	}
	out.OOMScoreAdj = &adj
	return nil
}

// processLabels takes the labels of the spec. A process that is added later without labels
// of its own gets those of init, as with other runtimes.
func processLabels(p *specs.Process, out *Process, c *Plan, f Facts) error {
	if err := checkString("process.apparmorProfile", p.ApparmorProfile, maxPath); err != nil {
		return err
	}
	if err := checkString("process.selinuxLabel", p.SelinuxLabel, maxPath); err != nil {
		return err
	}
	out.AppArmorProfile, out.SELinuxLabel = p.ApparmorProfile, p.SelinuxLabel
	if !f.AppArmor {
		if p.ApparmorProfile != "" && p.ApparmorProfile != "unconfined" {
			return invalid("process.apparmorProfile", p.ApparmorProfile, "AppArmor is not enabled on this host", "enable it or remove the profile")
		}
		out.AppArmorProfile = "" // it is unconfined already
	}
	if p.SelinuxLabel != "" && !f.SELinux {
		return invalid("process.selinuxLabel", p.SelinuxLabel, "SELinux is not enabled on this host", "enable it or remove the label")
	}
	if p.ApparmorProfile == "" {
		out.AppArmorProfile = c.Process.AppArmorProfile
	}
	if p.SelinuxLabel == "" {
		out.SELinuxLabel = c.Process.SELinuxLabel
	}
	return nil
}

// CheckIDs rejects ids of init and of devices that the container does not map. [Make]
// calls it if it knows the mappings; otherwise the runtime does after it has filled
// in those of [IDsAllocate] and [IDsJoin].
func (p *Plan) CheckIDs() error {
	if err := p.checkUser(&p.Process); err != nil {
		return err
	}
	for _, d := range p.Devices {
		if err := checkID("linux.devices "+d.Path+" uid", d.UID, p.IDs.UID); err != nil {
			return err
		}
		if err := checkID("linux.devices "+d.Path+" gid", d.GID, p.IDs.GID); err != nil {
			return err
		}
	}
	return nil
}
