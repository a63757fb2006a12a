// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// test runs the tests of packages in one machine and writes to out what go test -json
// would, with what was left out as package "part". dir is the folder that the packages are named from.
func (m *machine) test(ctx context.Context, out io.Writer, dir, pattern, skip string, timeout time.Duration, packages []string) (code int, err error) {
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}"}, packages...)...)
	list.Dir, list.Stderr = dir, os.Stderr
	found, err := list.Output()
	if err != nil {
		return 1, fmt.Errorf("%s: %w", list, err)
	}
	bin, err := os.MkdirTemp("", "vm-test-*")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	programs := []program{
		{name: "kernel", dir: "/", args: []string{"/bin/uname", "-rv"}},
		{name: "check", dir: "/", args: []string{"/bin/sh", "-c", shimDir + "/containerd-shim-sysbox-v1 check; true"}},
	}
	for line := range strings.Lines(string(found)) {
		name, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		file := filepath.Join(bin, strings.ReplaceAll(name, "/", "-")+".test")
		build := exec.CommandContext(ctx, "go", "test", "-c", "-o", file, name)
		build.Dir = dir
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("%s: %w\n%s", build, err, said)
		}
		programs = append(programs, program{name: name, dir: dir, args: []string{
			file, "-test.v=test2json", "-test.paniconexit0", "-test.timeout=" + timeout.String(), "-test.run=" + pattern, "-test.skip=" + skip,
		}})
	}
	c := converter{out: out}
	if pattern != "" || skip != "" {
		if _, err := fmt.Fprintf(said{out, "part"}, "-run '%s' -skip '%s'", pattern, skip); err != nil {
			return 1, err
		}
	}
	code, err = m.run(ctx, programs, c.next)
	return code, errors.Join(err, c.end())
}

// converter makes events of what programs write, one after the other.
type converter struct {
	out io.Writer
	cmd *exec.Cmd      // that of the present one; nil if it is no test
	in  io.WriteCloser // of cmd
}

func (c *converter) next(name string) (io.Writer, error) {
	if err := c.end(); err != nil {
		return nil, err
	}
	if !strings.Contains(name, "/") {
		return said{c.out, name}, nil
	}
	c.cmd = exec.Command("go", "tool", "test2json", "-t", "-p", name)
	c.cmd.Stdout, c.cmd.Stderr = c.out, os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return c.in, c.cmd.Start()
}

// end waits for the present one's events.
func (c *converter) end() error {
	if c.cmd == nil {
		return nil
	}
	err := errors.Join(c.in.Close(), c.cmd.Wait())
	c.cmd = nil
	return err
}

// said makes output events of a program that is no test.
type said struct {
	out  io.Writer
	name string
}

func (s said) Write(b []byte) (int, error) {
	e := struct {
		Time                    time.Time
		Action, Package, Output string
	}{time.Now(), "output", s.name, string(b)}
	return len(b), json.NewEncoder(s.out).Encode(e)
}
