// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"

	"sysbox/tests/pace"
)

// Machine tells whether this is a virtual machine that the tests have to themselves
// (command tests/vm), with systemd as init. There containerd is a service of systemd's,
// as on the hosts that people have.
func Machine() bool { return pace.Machine() }

// unit is the name of containerd's service, another at each start: systemd does not forget
// the one before as long as shims live in its cgroup.
func (c *Containerd) unit() string {
	return fmt.Sprintf("%s-%d.service", filepath.Base(c.Dir), c.starts)
}

// service is a command that runs containerd as a service, with the settings of the unit
// that containerd brings, and ends when it does.
func (c *Containerd) service(env []string) *exec.Cmd {
	args := []string{
		"--quiet", "--wait", "--collect", "--unit=" + c.unit(), "-p", "Delegate=yes", "-p", "KillMode=process",
		"-p", "OOMScoreAdjust=-999", "-p", "TasksMax=infinity", "-p", "LimitNOFILE=1048576",
		"-p", "StandardOutput=append:" + c.path("log"), "-p", "StandardError=append:" + c.path("log"),
	}
	for _, e := range env {
		args = append(args, "--setenv="+e)
	}
	return exec.Command("systemd-run", append(args, filepath.Join(c.bin, "containerd"), "-c", c.path("config.toml"))...)
}

// signal sends containerd a signal; it may have ended by itself.
func (c *Containerd) signal(sig syscall.Signal) {
	if Machine() {
		_ = exec.Command("systemctl", "kill", "--kill-whom=main", fmt.Sprintf("--signal=%d", sig), c.unit()).Run()
		return
	}
	_ = c.cmd.Process.Signal(sig)
}
