// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
	"sysbox/tests/pace"
)

// look answers a question of [Row.Look], as want has it if it may be several.
func (m *made) look(ctx context.Context, question, want, first string) (string, error) {
	words := strings.Fields(question)
	a := words[1:]
	switch words[0] {
	case "cgroup":
		if a[0] == "path" {
			return m.cgroup("")
		}
		return m.cgroupFile(a[0], a[1], want)
	case "cgroup-word":
		text, err := m.cgroupFile(a[0], a[1], "")
		for _, w := range strings.Fields(text) {
			if strings.HasPrefix(w, a[2]+"=") {
				return w, err
			}
		}
		return text, err
	case "weight":
		text, err := m.cgroupFile(a[0], a[2], "")
		if errors.Is(err, os.ErrNotExist) {
			text, err = m.cgroupFile(a[0], a[1], "")
		}
		for _, w := range strings.Split(want, " or ") {
			if slices.Contains(strings.Split(text, "; "), w) {
				return want, err
			}
		}
		return text, err
	case "mounts":
		for mount, err := range sys.MountsOf(fmt.Sprintf("/proc/%d/mountinfo", m.pid)) {
			if err != nil || mount.Type == a[0] {
				return a[0], err
			}
		}
		return "none such", nil
	case "notes":
		said := m.w.log.since()
		for _, n := range said {
			if strings.Contains(n, a[0]) {
				return n, nil
			}
		}
		return strings.Join(said, "; "), nil
	case "state", "hook", "order":
		return m.hook(words[0], a)
	case "namespace":
		return m.namespace(a[0], first)
	case "cpus":
		var set, ours unix.CPUSet
		err := errors.Join(unix.SchedGetaffinity(m.pid, &set), unix.SchedGetaffinity(0, &ours))
		if set == ours {
			return "as ours", err
		}
		return fmt.Sprint(set), err
	case "sched":
		s, err := unix.SchedGetAttr(m.pid, 0)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("policy %d flags %d nice %d priority %d", s.Policy, s.Flags, s.Nice, s.Priority), nil
	case "ioprio":
		n, _, e := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(m.pid), 0)
		if e != 0 {
			return "", e
		}
		return fmt.Sprintf("class %d level %d", n>>13, n&0x1fff), nil
	case "agent":
		state := <-m.w.told
		m.w.told <- state // for the next question
		if a[0] == "metadata" {
			return state.Metadata, nil
		}
		if state.Pid != m.pid || !slices.Equal(state.Fds, []string{a[0]}) {
			return fmt.Sprintf("of pid %d, with %q", state.Pid, state.Fds), nil
		}
		return "init's", nil
	case "filter":
		return filterFlags(m.pid)
	case "update":
		if m.Update(ctx, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(mib / 4), CheckBeforeUpdate: ptr(true)}}) != nil {
			return "refused", nil
		}
		return "done", nil
	case "before":
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", m.pid))
		if bytes.Contains(b, []byte("/bin/inside")) {
			return string(b), err
		}
		return "/bin/inside has not run", err
	case "start":
		return fmt.Sprint(m.Start(ctx)), nil
	case "create":
		_, err := m.pod.Create(ctx, m.request)
		return fmt.Sprint(err), nil
	case "kill":
		m.Init().Signal(int(unix.SIGKILL))
		ctx, cancel := context.WithTimeout(ctx, time.Minute*pace.Patience())
		defer cancel()
		exit, err := m.Init().Wait(ctx)
		return fmt.Sprint(exit.Status), err
	case "delete":
		err := m.Delete(ctx)
		if err == nil && len(a) > 0 {
			err = m.Delete(ctx)
		}
		if _, gone := os.Stat(fmt.Sprintf("/proc/%d", m.pid)); err == nil && gone == nil {
			err = errors.New("init is still there")
		}
		return "works", err
	}
	return "", fmt.Errorf("nobody knows how to look at %q", question)
}

// cgroup is init's path in the hierarchy of a controller, "" for version 2's.
func (m *made) cgroup(controller string) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", m.pid))
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if slices.Contains(strings.Split(f[1], ","), controller) {
			return f[2], err
		}
	}
	return "", errors.Join(err, fmt.Errorf("no controller %q", controller))
}

// cgroupFile is the text of a file of the container's cgroup, its lines joined, or the one
// line that is wanted.
func (m *made) cgroupFile(controller, file, want string) (string, error) {
	root, name := v2root(), ""
	if hasV1(controller) {
		root, name = "/sys/fs/cgroup/"+controller, controller
	}
	path, err := m.cgroup(name)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(root, path, file))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if slices.Contains(lines, want) {
		return want, err
	}
	return strings.Join(lines, "; "), err
}

func (m *made) namespace(file, first string) (string, error) {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", m.pid, file))
	if err != nil {
		return "", err
	}
	ours, err := os.Readlink("/proc/self/ns/" + file)
	if err != nil {
		return "", err
	}
	other, _ := os.Readlink(first + file)
	switch theirs {
	case other: // first, since it is the host's where the two containers have that
		return "the other container's", nil
	case ours:
		return "the host's", nil
	}
	return "its own", nil
}

// hook answers from what the hooks wrote down.
func (m *made) hook(what string, a []string) (string, error) {
	f, err := os.Open(filepath.Join(m.w.bundle, "log/log"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	var all, of []ran
	var places []string
	for s := bufio.NewScanner(f); s.Scan(); {
		var h ran
		if err := json.Unmarshal(s.Bytes(), &h); err != nil {
			return "", err
		}
		all = append(all, h)
		if h.Args[1] == a[0] {
			of = append(of, h)
			places = append(places, fmt.Sprint(len(all)))
		}
	}
	if len(of) == 0 {
		return "it did not run", nil
	}
	h := of[0]
	switch {
	case what == "order":
		return strings.Join(places, " "), nil
	case what == "hook" && a[1] == "runs":
		return fmt.Sprint(len(of)), nil
	case what == "hook" && a[1] == "args":
		return strings.Join(h.Args[:len(h.Args)-1], " "), nil
	case what == "hook" && a[1] == "env":
		return strings.Join(h.Env, " "), nil
	case what == "hook" && a[1] == "network":
		ours, err := os.Readlink("/proc/self/ns/net")
		switch h.Network {
		case m.netns:
			return "the container's", err
		case ours:
			return "the host's", err
		}
		return h.Network, err
	case a[1] == "bundle" && string(h.State["bundle"]) == `"`+m.w.bundle+`"`:
		return "the bundle", nil
	case a[1] == "pid" && string(h.State["pid"]) == fmt.Sprint(m.pid):
		return "init's", nil
	}
	return string(h.State[a[1]]), nil
}

// filterFlags asks the kernel for the flags of a process's newest filter, of which it tells
// one. Whoever traces must be one thread.
func filterFlags(pid int) (string, error) {
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	if err := unix.PtraceSeize(pid); err != nil {
		return "", err
	}
	defer unix.PtraceDetach(pid) //nolint:errcheck // it ends with the tracer otherwise
	if err := unix.PtraceInterrupt(pid); err != nil {
		return "", err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		return "", err
	}
	var metadata struct{ filter, flags uint64 }
	const getMetadata = 0x420d
	_, _, e := unix.Syscall6(unix.SYS_PTRACE, getMetadata, uintptr(pid), unsafe.Sizeof(metadata), uintptr(unsafe.Pointer(&metadata)), 0, 0)
	if e != 0 {
		return "", e
	}
	if metadata.flags == unix.SECCOMP_FILTER_FLAG_LOG {
		return "log", nil
	}
	return "no flags", nil
}
