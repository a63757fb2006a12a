// Command vm runs a program, mostly a test binary, in a virtual machine with another
// kernel, systemd as init and cgroup version 2 alone:
//
//	go test -exec "$PWD/tests/vm/run -kernel 6.1" ./runtime/...
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
	"os"
	"os/signal"
	"time"

	"sysbox/tests/images"
)

func main() {
	var m machine
	kernel := flag.String("kernel", "newest", "the kernel: 6.1, 6.12 or newest")
	flag.StringVar(&m.cwd, "dir", ".", "working `folder` of the program")
	flag.IntVar(&m.memory, "memory", 4096, "memory in MiB")
	timeout := flag.Duration("timeout", 30*time.Minute, "when to give up")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "vm: no program given; usage: vm [flags] PROGRAM ARGS...")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	code, err := run(ctx, m, *kernel, flag.Args())
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(max(code, 1))
	}
	os.Exit(code)
}

func run(ctx context.Context, m machine, kernel string, args []string) (code int, err error) {
	if m.disk, err = images.Machine(kernel); err != nil {
		return 1, err
	}
	job, err := os.MkdirTemp("", "vm-*")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(job)) }()
	if err := m.write(job, args); err != nil {
		return 1, err
	}
	return m.boot(ctx, job, os.Stdout)
}
