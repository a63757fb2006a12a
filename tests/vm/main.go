// SPDX-License-Identifier: Apache-2.0

// Command vm runs a program, mostly a test binary, in a virtual machine with another
// kernel, systemd as init and cgroup version 2 alone:
//
//	go test -exec "$PWD/tests/vm/run -kernel 6.1" ./runtime/...
//
// With -test it boots once for the tests of all the packages named, and writes what
// go test -json would, after what the shim's check said there (as package "check"):
//
//	tests/vm/run -kernel 6.1 -test -run 'TestTraps|TestAll' ./runtime/trap ./runtime/feature
//
// The machine sees the repository, the cache and the program's folder, read-only, where
// the host has them. The exit status is the program's.
//
// What does not belong here: making the machine's disk (package images).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"sysbox/tests/images"
)

func main() {
	var m machine
	kernel := flag.String("kernel", "newest", "the kernel: 5.10, 6.1, 6.12 or newest")
	flag.StringVar(&m.lsm, "lsm", images.AppArmor, "the security `module`: "+images.AppArmor+" or "+images.SELinux+", which enforces nothing")
	dir := flag.String("dir", ".", "working `folder` of the program")
	tests := flag.Bool("test", false, "the arguments are packages whose tests are run")
	pattern := flag.String("run", "", "with -test: the tests' names, as of go test -run")
	skip := flag.String("skip", "", "with -test: the names of those that are not run")
	flag.IntVar(&m.memory, "memory", 4096, "memory in MiB")
	silence := flag.Duration("silence", 10*time.Minute, "with -test: how long a test may say nothing before it is told to quit and to say where it is")
	timeout := flag.Duration("timeout", 30*time.Minute, "when to give up")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "vm: no program given; usage: vm [flags] PROGRAM ARGS..., or vm [flags] -test PACKAGES...")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	var code int
	var err error
	if m.disk, err = images.Machine(*kernel, m.lsm); err != nil {
		code = 1
	} else if *tests {
		m.silence = *silence
		code, err = m.test(ctx, os.Stdout, *dir, *pattern, *skip, *timeout, flag.Args())
	} else {
		code, err = m.run(ctx, []program{{dir: *dir, args: flag.Args()}}, func(string) (io.Writer, error) { return os.Stdout, nil })
	}
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(max(code, 1))
	}
	os.Exit(code)
}

// run boots the machine for the programs.
func (m *machine) run(ctx context.Context, programs []program, next func(name string) (io.Writer, error)) (code int, err error) {
	job, err := os.MkdirTemp("", "vm-*")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(job)) }()
	if err := m.write(job, programs); err != nil {
		return 1, err
	}
	return m.boot(ctx, job, next)
}
