// SPDX-License-Identifier: Apache-2.0

// Command demo runs the main job once, telling what it does: a system
// container that boots an unmodified Debian and runs Docker in itself.
//
// What does not belong here: checks for CI, which are package e2e's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

const id = "demo"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

var begin = time.Now()

func say(format string, args ...any) {
	fmt.Printf("[%6.1f s] %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
}

func demo(ctx context.Context) (err error) {
	if os.Getuid() != 0 {
		return errors.New("it makes containers; run it as root")
	}
	say("building containerd %s (the first time: a few minutes) …", peers.Newest)
	if _, err := peers.Containerd(peers.Newest); err != nil {
		return err
	}
	say("making a Debian image with systemd and Docker (the first time: a few minutes) …")
	image, err := images.Debian()
	if err != nil {
		return err
	}
	say("starting a private containerd …")
	c, err := harness.Start(ctx, peers.Newest)
	if err != nil {
		return err
	}
	defer func() {
		say("cleaning up …")
		err = errors.Join(err, c.Stop())
	}()
	say("importing the image …")
	if _, err := c.Load(ctx, image); err != nil {
		return err
	}
	say("ctr run -d --allow-new-privs --runtime %s %s %s", harness.Runtime, images.DebianName, id)
	t := time.Now()
	if out, err := c.Ctr(ctx, "run", "-d", "--allow-new-privs", "--runtime", harness.Runtime, images.DebianName, id).CombinedOutput(); err != nil {
		return fmt.Errorf("ctr run: %w\n%s\n%s", err, out, c.Log())
	}
	if err := boot(ctx, c); err != nil {
		return err
	}
	say("systemd was up %.1f s after the start", time.Since(t).Seconds())
	say("root in the container is nobody on the host:")
	show(ctx, c, "cat /proc/self/uid_map; id")
	if err := docker(ctx, c); err != nil {
		return err
	}
	if os.Getenv("SHELL_IN") != "" {
		return shell(ctx, c)
	}
	say("done. 'make demo SHELL_IN=1' leaves you in a shell in the container")
	return nil
}

func execIn(ctx context.Context, c *harness.Containerd, script string) ([]byte, error) {
	name := fmt.Sprintf("x%d", time.Now().UnixNano())
	return c.Ctr(ctx, "task", "exec", "--exec-id", name, id, "sh", "-c", script).Output()
}

func show(ctx context.Context, c *harness.Containerd, script string) {
	out, err := execIn(ctx, c, script)
	for line := range strings.Lines(string(out)) {
		fmt.Print("           ", line)
	}
	if err != nil {
		fmt.Println("          ", err)
	}
}

// boot waits for systemd to be done.
func boot(ctx context.Context, c *harness.Containerd) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		out, _ := execIn(ctx, c, "systemctl is-system-running")
		switch state := strings.TrimSpace(string(out)); state {
		case "running":
			say("systemctl is-system-running: running")
			return nil
		case "degraded", "maintenance":
			show(ctx, c, "systemctl --failed --no-legend --no-pager; systemctl status --failed --no-pager | head -50")
			return fmt.Errorf("systemctl is-system-running: %s", state)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("systemd did not come up: %w\n%s", ctx.Err(), c.Log())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func docker(ctx context.Context, c *harness.Containerd) error {
	for _, script := range []string{
		"docker version --format 'Docker {{.Server.Version}}'; docker info --format 'storage {{.Driver}}, cgroup v{{.CgroupVersion}}'",
		"docker load -q -i /opt/busybox.tar",
		"docker run --rm busybox:test sh -c 'echo hello from a container in the container; ip -4 addr show eth0; ping -c1 -W2 172.17.0.1 | head -2'",
	} {
		say("in the container: %s", script)
		out, err := execIn(ctx, c, script)
		for line := range strings.Lines(string(out)) {
			fmt.Print("           ", line)
		}
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return fmt.Errorf("%s: %w\n%s", script, err, exit.Stderr)
			}
			return err
		}
	}
	return nil
}

// shell leaves the user in the container.
func shell(ctx context.Context, c *harness.Containerd) error {
	say("a shell in the container; leave it with 'exit'")
	cmd := c.Ctr(ctx, "task", "exec", "-t", "--exec-id", "shell", id, "bash", "-l")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	_ = cmd.Run() // how the user's last command ended is no failure of the demo
	return nil
}
