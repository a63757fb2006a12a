// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/runtime/fsutil"
	"sysbox/runtime/state"
	"sysbox/uidmap"
)

const (
	// trialStatus is the exit status of the trial's program; nothing else exits with it.
	trialStatus = 77
	// trialDeadline bounds each step of a trial, and its removal.
	trialDeadline = 30 * time.Second
	// trialNamespace keeps trials apart from the containerd namespaces of callers.
	trialNamespace = "sysbox-check"
	// trialMark begins the name of a trial's directory.
	trialMark = "check-"
)

// try creates a container as callers do, from an empty root with one program of ours, runs it
// and removes it: if that works, containers start on this host. The trial shares neither names
// nor ids with other containers. The error says which step failed and why.
func try(ctx context.Context, log *slog.Logger, cfg *config.Config) (err error) {
	dir, unlock, err := trialDir(ctx, cfg.DataDir)
	if err != nil {
		return fmt.Errorf("make a directory for the container below data_dir %s: %w", cfg.DataDir, err)
	}
	defer unlock()
	upper := filepath.Join(dir, "upper")
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), trialDeadline)
		defer cancel()
		// A chowned tree keeps its journal until Revert.
		err = errors.Join(err, fsutil.RemoveAll(ctx, nil, dir), uidmap.Revert(cfg.Dirs().Journals(), upper))
	}()
	for _, d := range []string{"lower", "upper", "work", "bundle/rootfs"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	program, err := exits(goruntime.GOARCH, trialStatus)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "lower/program"), program, 0o755); err != nil {
		return err
	}
	b, err := json.Marshal(trialSpec())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bundle/config.json"), b, 0o600); err != nil {
		return err
	}
	id := strings.ToLower(rand.Text())
	pod := runtime.NewPod(cfg, log, trialNamespace, id)
	defer func() { err = errors.Join(err, pod.Close()) }()
	return runTrial(ctx, pod, runtime.CreateRequest{
		ID: id, Bundle: filepath.Join(dir, "bundle"),
		Rootfs: []runtime.RootfsMount{{Type: "overlay", Source: "overlay", Options: []string{
			"lowerdir=" + filepath.Join(dir, "lower"), "upperdir=" + upper, "workdir=" + filepath.Join(dir, "work"),
		}}},
	})
}

func runTrial(ctx context.Context, pod *runtime.Pod, r runtime.CreateRequest) (err error) {
	ctx, cancel := context.WithTimeout(ctx, trialDeadline)
	defer cancel()
	c, err := pod.Create(ctx, r)
	if err != nil {
		return fmt.Errorf("create the container: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), trialDeadline)
		defer cancel()
		if e := c.Delete(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("delete the container: %w", e))
		}
	}()
	if err := c.Start(ctx); err != nil {
		return fmt.Errorf("start its program: %w", err)
	}
	exit, err := c.Init().Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait for its program to exit: %w", err)
	}
	if exit.Status != trialStatus {
		return fmt.Errorf("its program exited with status %[2]d instead of %[1]d; the kernel log may say why", trialStatus, exit.Status)
	}
	return nil
}

// trialDir makes a directory that stays locked until unlock is called, and removes the
// directories of trials that were killed.
func trialDir(ctx context.Context, parent string) (dir string, unlock func(), err error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", nil, err
	}
	var st unix.Statfs_t
	if unix.Statfs(parent, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC && unix.Statfs(snapshots, &st) == nil && st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		parent = snapshots // an overlay cannot hold the upper layer of another
	}
	old, err := filepath.Glob(state.GlobEscaped(parent) + "/" + trialMark + "*")
	if err != nil {
		return "", nil, err
	}
	for _, name := range old {
		unlock, err := state.LockStorage(name, unix.LOCK_NB)
		if err != nil {
			continue // its trial is running, or it is gone
		}
		err = fsutil.RemoveAll(ctx, nil, name)
		unlock()
		if err != nil {
			return "", nil, err
		}
	}
	for {
		if dir, err = os.MkdirTemp(parent, trialMark); err != nil {
			return "", nil, err
		}
		unlock, err := state.LockStorage(dir, unix.LOCK_NB)
		switch {
		case err == nil:
			return dir, unlock, nil
		case ctx.Err() == nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK)):
			// Another check found the directory before it was locked, and removes it.
		default:
			return "", nil, errors.Join(err, os.Remove(dir))
		}
	}
}

// snapshots is where containerd keeps the layers of its own overlays.
const snapshots = "/var/lib/containerd"

// trialSpec returns the spec that callers send for a container without options.
func trialSpec() *specs.Spec {
	kernel := []string{"nosuid", "noexec", "nodev"}
	return &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: "rootfs"},
		Hostname: "check",
		Process:  &specs.Process{Args: []string{"/program"}, Cwd: "/", NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: kernel},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: append(kernel, "mode=1777", "size=65536k")},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: kernel},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append(kernel, "ro")},
			{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		},
		Linux: &specs.Linux{
			Namespaces:    []specs.LinuxNamespace{{Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}, {Type: "network"}},
			MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Resources:     &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		},
	}
}

// exits returns a static ELF executable for arch that only exits with status (elf(5)): a
// header, one loaded segment, and the call exit_group.
func exits(arch string, status byte) ([]byte, error) {
	le := binary.LittleEndian
	var machine uint16
	var code []byte
	switch arch {
	case "amd64":
		machine = 62
		code = []byte{0xbf, status, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05} // mov edi, status; mov eax, 231; syscall
	case "arm64":
		machine = 183
		for _, insn := range []uint32{0xd2800000 | uint32(status)<<5, 0xd2800000 | 94<<5 | 8, 0xd4000001} { // mov x0, #status; mov x8, #94; svc #0
			code = le.AppendUint32(code, insn)
		}
	default:
		return nil, fmt.Errorf("make a program for %s: only amd64 and arm64 are known", arch)
	}
	const base, headers = 0x100000, 64 + 56
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	for _, v := range []uint64{base + headers, 64, 0} { // entry, program headers, no section headers
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // readable, executable
	for _, v := range []uint64{0, base, base, uint64(headers + len(code)), uint64(headers + len(code)), 0x10000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, code...), nil
}
