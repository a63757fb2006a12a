// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// refusedFields are the parts of a spec that are refused whatever is in them.
var refusedFields = map[string]func(*specs.Spec){
	"Spec.Solaris":            func(s *specs.Spec) { s.Solaris = &specs.Solaris{} },
	"Spec.Windows":            func(s *specs.Spec) { s.Windows = &specs.Windows{} },
	"Spec.VM":                 func(s *specs.Spec) { s.VM = &specs.VM{} },
	"Spec.ZOS":                func(s *specs.Spec) { s.ZOS = &specs.ZOS{} },
	"Spec.FreeBSD":            func(s *specs.Spec) { s.FreeBSD = &specs.FreeBSD{} },
	"Linux.IntelRdt":          func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} },
	"Linux.MountLabel":        func(s *specs.Spec) { s.Linux.MountLabel = "system_u:object_r:x:s0" },
	"Process.CommandLine":     func(s *specs.Spec) { s.Process.CommandLine = "cmd" },
	"Process.ApparmorProfile": func(s *specs.Spec) { s.Process.ApparmorProfile = "docker-default" },
	"Process.SelinuxLabel":    func(s *specs.Spec) { s.Process.SelinuxLabel = "system_u:system_r:x:s0" },
	"User.Username":           func(s *specs.Spec) { s.Process.User.Username = "ContainerUser" },
	"LinuxPersonality.Flags":  func(s *specs.Spec) { s.Linux.Personality.Flags = []specs.LinuxPersonalityFlag{"X"} },
}

// unseenFields do not show in a plan, for the reason given.
var unseenFields = map[string]string{
	"Process.Terminal": "the caller's request counts; a difference is noted",
}

// fullSpec has every field that is not refused.
func fullSpec() *specs.Spec {
	i64 := func(n int64) *int64 { return &n }
	u64 := func(n uint64) *uint64 { return &n }
	u32 := func(n uint32) *uint32 { return &n }
	u16 := func(n uint16) *uint16 { return &n }
	num := func(n int) *int { return &n }
	uin := func(n uint) *uint { return &n }
	yes := true
	mode := os.FileMode(0o640)
	caps := []string{"CAP_CHOWN"}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 70000}}
	hook := []specs.Hook{{Path: "/hook", Args: []string{"hook"}, Env: []string{"A=b"}, Timeout: num(3)}}
	dev := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	throttle := []specs.LinuxThrottleDevice{{LinuxBlockIODevice: dev, Rate: 1}}
	return &specs.Spec{
		Version: "1.3.0", Hostname: "h", Domainname: "d",
		Process: &specs.Process{
			ConsoleSize: &specs.Box{Height: 2, Width: 3},
			User:        specs.User{UID: 1, GID: 2, Umask: u32(3), AdditionalGids: []uint32{4}},
			Args:        []string{"sh"}, Env: []string{"SYSBOX_SYSCONT_MODE=FALSE", "A=b"}, Cwd: "/",
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Inheritable: caps, Permitted: caps, Ambient: caps},
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Hard: 20, Soft: 10}},
			NoNewPrivileges: true, OOMScoreAdj: num(5),
			Scheduler:       &specs.Scheduler{Policy: specs.SchedFIFO, Nice: 1, Priority: 2, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}, Runtime: 0, Deadline: 0, Period: 0},
			IOPriority:      &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 3},
			ExecCPUAffinity: &specs.CPUAffinity{Initial: "0", Final: "1"},
		},
		Root:        &specs.Root{Path: "rootfs", Readonly: true},
		Mounts:      []specs.Mount{{Destination: "/a", Type: "bind", Source: "/s", Options: []string{"ro"}, UIDMappings: ids, GIDMappings: ids}},
		Hooks:       &specs.Hooks{Prestart: hook, CreateRuntime: hook, CreateContainer: hook, StartContainer: hook, Poststart: hook, Poststop: hook}, //nolint:staticcheck // still in use
		Annotations: map[string]string{"k": "v"},
		Linux: &specs.Linux{
			UIDMappings: ids, GIDMappings: ids,
			Sysctl:      map[string]string{"net.ipv4.ip_forward": "1"},
			CgroupsPath: "/c",
			Namespaces: []specs.LinuxNamespace{
				{Type: "pid", Path: "/ns/pid"},
				{Type: "network", Path: "/ns/net"},
				{Type: "ipc", Path: "/ns/ipc"},
				{Type: "uts", Path: "/ns/uts"},
				{Type: "mount"},
				{Type: "user"},
				{Type: "time"},
			},
			Devices:           []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: 240, Minor: 1, FileMode: &mode, UID: u32(1), GID: u32(2)}},
			RootfsPropagation: "rslave", MaskedPaths: []string{"/m"}, ReadonlyPaths: []string{"/r"},
			Personality:  &specs.LinuxPersonality{Domain: specs.PerLinux32},
			NetDevices:   map[string]specs.LinuxNetDevice{"eth1": {Name: "eth2"}},
			MemoryPolicy: &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "1", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}},
			TimeOffsets:  map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 1, Nanosecs: 2}},
			Seccomp: &specs.LinuxSeccomp{
				DefaultAction: specs.ActErrno, DefaultErrnoRet: uin(1), Architectures: []specs.Arch{specs.ArchX86_64}, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog},
				ListenerPath: "/run/agent.sock", ListenerMetadata: "x",
				Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, ErrnoRet: uin(2), Args: []specs.LinuxSeccompArg{{Index: 1, Value: 2, ValueTwo: 3, Op: specs.OpMaskedEqual}}}},
			},
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: i64(240), Minor: i64(1), Access: "rw"}},
				Memory:  &specs.LinuxMemory{Limit: i64(1), Reservation: i64(1), Swap: i64(1), Kernel: i64(1), KernelTCP: i64(1), Swappiness: u64(1), DisableOOMKiller: &yes, UseHierarchy: &yes, CheckBeforeUpdate: &yes}, //nolint:staticcheck // still in use
				CPU:     &specs.LinuxCPU{Shares: u64(1), Quota: i64(1), Burst: u64(1), Period: u64(1), RealtimeRuntime: i64(1), RealtimePeriod: u64(1), Cpus: "0", Mems: "0", Idle: i64(1)},
				Pids:    &specs.LinuxPids{Limit: i64(1)},
				BlockIO: &specs.LinuxBlockIO{
					Weight: u16(1), LeafWeight: u16(1), WeightDevice: []specs.LinuxWeightDevice{{LinuxBlockIODevice: dev, Weight: u16(1), LeafWeight: u16(1)}},
					ThrottleReadBpsDevice: throttle, ThrottleWriteBpsDevice: throttle, ThrottleReadIOPSDevice: throttle, ThrottleWriteIOPSDevice: throttle,
				},
				HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1}},
				Network:        &specs.LinuxNetwork{ClassID: u32(1), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 1}}},
				Rdma:           map[string]specs.LinuxRdma{"mlx": {HcaHandles: u32(1), HcaObjects: u32(1)}},
				Unified:        map[string]string{"pids.max": "1"},
			},
		},
	}
}

func fullInput(s *specs.Spec) Input {
	return Input{Namespace: "n", ID: "i", Bundle: "/b", Spec: s, Terminal: true, Facts: testFacts()}
}

// TestEveryFieldIsAccountedFor changes every field of the spec, one at a time:
// each must change the plan or be refused, or be listed with its reason. A
// field that a new version of the spec brings fails here until it is dealt with.
func TestEveryFieldIsAccountedFor(t *testing.T) {
	base := planJSON(t, fullSpec())
	if strings.HasPrefix(base, "refused") {
		t.Fatal(base)
	}
	seen := map[string]bool{}
	s := fullSpec()
	walk(t, reflect.ValueOf(s).Elem(), "", seen, func(name, where string) {
		got := planJSON(t, s)
		_, listed := unseenFields[name]
		if got == base && !listed {
			t.Errorf("%s (%s): a change of it changes nothing in the plan", name, where)
		}
		if got != base && !strings.HasPrefix(got, "refused") && listed && name != "Process.Terminal" {
			t.Errorf("%s is listed as unseen, but shows in the plan", name)
		}
	})
	if got := planJSON(t, s); got != base {
		t.Fatal("the walk did not put everything back")
	}
	for name := range unseenFields {
		if !seen[name] {
			t.Errorf("%s is listed as unseen, but there is no such field", name)
		}
	}
	for name, set := range refusedFields {
		if !seen[name] {
			t.Errorf("%s is listed as refused, but there is no such field", name)
		}
		s := fullSpec()
		set(s)
		if _, err := Make(fullInput(s)); !isRefusal(err) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
}

func isRefusal(err error) bool {
	var r *ValidationError
	return errors.As(err, &r)
}

func planJSON(t *testing.T, s *specs.Spec) string {
	p, err := Make(fullInput(s))
	if err != nil {
		if !isRefusal(err) {
			t.Error(err)
		}
		return "refused: " + err.Error()
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// walk changes each leaf below v, calls changed, and puts it back.
func walk(t *testing.T, v reflect.Value, name string, seen map[string]bool, changed func(name, where string)) {
	where := fmt.Sprint(v.Type())
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			n := v.Type().Name() + "." + f.Name
			seen[n] = true
			if refusedFields[n] == nil {
				walk(t, v.Field(i), n, seen, changed)
			}
		}
		return
	case reflect.Pointer:
		if v.IsNil() {
			t.Errorf("%s is missing in fullSpec", name)
			return
		}
		walk(t, v.Elem(), name, seen, changed)
		return
	case reflect.Slice:
		if v.Len() == 0 {
			t.Errorf("%s is missing in fullSpec", name)
			return
		}
		for i := range v.Len() {
			walk(t, v.Index(i), name, seen, changed)
		}
		return
	case reflect.Map:
		if v.Len() == 0 {
			t.Errorf("%s is missing in fullSpec", name)
			return
		}
		for _, k := range v.MapKeys() {
			e := reflect.New(v.Type().Elem()).Elem()
			e.Set(v.MapIndex(k))
			old := v.MapIndex(k)
			walk(t, e, name, seen, func(n, w string) { v.SetMapIndex(k, e); changed(n, w) })
			v.SetMapIndex(k, old)
		}
		return
	}
	old := reflect.New(v.Type()).Elem()
	old.Set(v)
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	default:
		t.Errorf("%s: no way to change a %s", name, where)
	}
	changed(name, where)
	v.Set(old)
}

// TestExecAffinity: what does not show in the plan of init does for exec.
func TestExecAffinity(t *testing.T) {
	p, err := Make(fullInput(fullSpec()))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p.Process.CPUs, ExecCPUs{}) {
		t.Error("init has an affinity")
	}
	proc := fullSpec().Process
	proc.ExecCPUAffinity = nil
	got, err := MakeProcess(proc, false, p, testFacts())
	if err != nil {
		t.Fatal(err)
	}
	if want := (ExecCPUs{Initial: []int{0}, Final: []int{1}}); !reflect.DeepEqual(got.CPUs, want) {
		t.Errorf("of an exec that says nothing: %v, want the container's %v", got.CPUs, want)
	}
	proc.ExecCPUAffinity = &specs.CPUAffinity{Initial: "3,0-1,1", Final: "7"}
	if got, err = MakeProcess(proc, false, p, testFacts()); err != nil {
		t.Fatal(err)
	}
	if want := (ExecCPUs{Initial: []int{0, 1, 3}, Final: []int{7}}); !reflect.DeepEqual(got.CPUs, want) {
		t.Errorf("got %v, want %v", got.CPUs, want)
	}
	for _, bad := range []string{"1-0", "-1", "a", "0,,1", "0-", "8192", "0-99999999999", "1-2-3", "+1"} {
		proc.ExecCPUAffinity = &specs.CPUAffinity{Final: bad}
		if _, err := MakeProcess(proc, false, p, testFacts()); !isRefusal(err) {
			t.Errorf("%q: got %v, want a refusal", bad, err)
		}
	}
}
