// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sysbox/tests/images"
)

// boot runs the machine until its job has ended, and returns the job's exit status. What
// the job writes goes to the writer that next returns when a program begins. The disk is
// as before afterwards. A program that says nothing for as long as m.silence is told to
// quit, by which Go's programs say what they were doing; the next one follows.
func (m *machine) boot(ctx context.Context, job string, next func(name string) (io.Writer, error)) (int, error) {
	console := filepath.Join(job, "console")
	line := "console=ttyS0 quiet panic=-1 root=/dev/vda rw mitigations=off systemd.show_status=0 systemd.unified_cgroup_hierarchy=1"
	if m.lsm != images.AppArmor { // which Debian's kernels choose themselves
		line += " security=" + m.lsm
	}
	args := []string{
		"-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-smp", "2", "-m", strconv.Itoa(m.memory),
		"-nodefaults", "-display", "none", "-no-reboot", "-nic", "none",
		"-kernel", filepath.Join(m.disk, "vmlinuz"), "-initrd", filepath.Join(m.disk, "initrd"),
		"-append", line,
		"-drive", "file=" + filepath.Join(m.disk, "disk.img") + ",format=raw,if=virtio,snapshot=on",
		"-serial", "file:" + console, "-serial", "stdio",
		"-virtfs", "local,path=" + job + ",mount_tag=job,security_model=none,readonly=on",
	}
	for i, dir := range m.shares {
		args = append(args, "-virtfs", fmt.Sprintf("local,path=%s,mount_tag=share%d,security_model=none,readonly=on,multidevs=remap", dir, i))
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.Stderr = os.Stderr
	// A machine ends with its starter, and the keyboard's interrupt is the starter's.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return 1, err
	}
	quit, err := cmd.StdinPipe()
	if err != nil {
		return 1, err
	}
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("%w; install qemu-system-x86", err)
	}
	silent := func() {}
	if m.silence > 0 {
		t := time.AfterFunc(m.silence, func() { _, _ = io.WriteString(quit, "quit\n") })
		defer t.Stop()
		silent = func() { t.Reset(m.silence) }
	}
	code, said := 1, false
	var out io.Writer = os.Stderr // until something begins
	lines := bufio.NewReader(pipe)
	for {
		line, end := lines.ReadString('\n')
		silent()
		if status, ok := strings.CutPrefix(line, ended); ok {
			if code, err = strconv.Atoi(strings.TrimSpace(status)); err != nil {
				return 1, err
			}
			said = true
		} else if name, ok := strings.CutPrefix(line, begins); ok {
			if out, err = next(strings.TrimSpace(name)); err != nil {
				return 1, err
			}
		} else if _, err := io.WriteString(out, line); err != nil {
			return 1, err
		}
		if end != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		return 1, errors.Join(fmt.Errorf("the machine: %w", err), context.Cause(ctx))
	}
	if !said {
		log, _ := os.ReadFile(console)
		return 1, fmt.Errorf("the machine ended before its job did; the end of its console:\n%s", log[max(0, len(log)-4000):])
	}
	return code, nil
}
