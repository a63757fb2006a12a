// SPDX-License-Identifier: Apache-2.0

// Package shim is the command containerd-shim-sysbox-v1 as containerd, CRI-O
// and Docker know it: its actions start and delete, its answers to -info and
// -v, the daemon that serves the task API, and the administrator's commands.
//
// This package itself only reads the command line and answers. The parts are
// in the packages below: bootstrap (start), daemon, task, metrics, stdio, event,
// bundle, admin, features (-info), version. How a container is made is part of
// package runtime and does not belong here.
package shim

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/fill"
	"sysbox/runtime/text"
	"sysbox/shim/admin"
	"sysbox/shim/bootstrap"
	"sysbox/shim/daemon"
	"sysbox/shim/features"
	"sysbox/shim/version"
)

// maxStdin bounds what callers send on stdin: options, bootstrap parameters.
const maxStdin = 10 << 20

const usageHead = `containerd-shim-sysbox-v1 is the containerd shim for system containers. containerd runs it
with the flags below. As root you can run

`

const usageTail = `
and, as any user,

  containerd-shim-sysbox-v1 -v

containerd runs: containerd-shim-sysbox-v1 [flags] start|delete

`

// usage is the part of -help before the flags.
func usage() string {
	s := strings.Builder{}
	s.WriteString(usageHead)
	for _, c := range admin.Commands {
		fmt.Fprintf(&s, "  containerd-shim-sysbox-v1 %-10s %s\n", c.Name, c.Summary)
	}
	s.WriteString(usageTail)
	return s.String()
}

// flags holds the flags that containerd passes, and our own for the daemon.
type flags struct {
	namespace, id, address, bundle, publishBinary, socket string
	debug, version, info                                  bool
}

// Main runs the command line and returns the exit code. Callers read stdout and
// stderr together, so on success Main writes nothing but the answer to either.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if status, mine := fill.Main(args); mine {
		return status
	}
	f, action, err := parse(args, stderr)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if err := run(f, action, stdin, stdout); err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", version.Name, text.Line(err.Error()))
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (flags, string, error) {
	var f flags
	s := flag.NewFlagSet("containerd-shim-sysbox-v1", flag.ContinueOnError)
	s.SetOutput(stderr)
	s.Usage = func() {
		_, _ = io.WriteString(stderr, usage())
		s.PrintDefaults()
	}
	s.StringVar(&f.namespace, "namespace", "", "containerd `namespace` of the container")
	s.StringVar(&f.id, "id", "", "`id` of the container")
	s.StringVar(&f.address, "address", "", "containerd's gRPC `address`")
	s.StringVar(&f.bundle, "bundle", "", "`directory` of the bundle (default: the working directory)")
	s.StringVar(&f.publishBinary, "publish-binary", "", "path of containerd's `binary`; ignored, since events go by ttrpc")
	s.StringVar(&f.socket, "socket", "", "`address` that the daemon serves; set by the action start only")
	s.BoolVar(&f.debug, "debug", false, "log each step")
	s.BoolVar(&f.version, "v", false, "print the version and exit")
	s.BoolVar(&f.version, "version", false, "the same, as callers of OCI runtimes ask")
	s.BoolVar(&f.info, "info", false, "print what the runtime can do, as containerd's RuntimeInfo (binary), and exit")
	if err := s.Parse(args[1:]); err != nil {
		return f, "", err
	}
	switch s.Arg(0) {
	case "version":
		f.version = true
	case "help":
		s.Usage()
		return f, "", flag.ErrHelp
	}
	return f, s.Arg(0), extra(s)
}

// extra rejects trailing arguments, so that nothing the user typed is silently ignored.
func extra(s *flag.FlagSet) error {
	if s.NArg() < 2 {
		return nil
	}
	err := fmt.Errorf("unexpected argument %q after %q; flags go before the action", s.Arg(1), s.Arg(0))
	fmt.Fprintf(s.Output(), "%s: %v\n", version.Name, err)
	return err
}

func run(f flags, action string, stdin io.Reader, stdout io.Writer) error {
	switch {
	case f.version:
		_, err := fmt.Fprintf(stdout, "containerd-shim-sysbox-v1\n  version:  %s\n", version.Version)
		if err == nil && version.Revision != "" {
			_, err = fmt.Fprintf(stdout, "  revision: %s\n", version.Revision)
		}
		return err
	case f.info:
		return features.WriteInfo(stdout)
	}
	if c, ok := admin.Find(action); ok { // the administrator's, not containerd's
		return c.Run(stdout)
	}
	switch action {
	case "start", "delete", "":
	default:
		return fmt.Errorf("unknown action %q; containerd uses start and delete, you can run %s; see -help", action, admin.Names())
	}
	if f.namespace == "" {
		return errors.New("-namespace is empty; containerd passes it when it runs this program, as in -namespace k8s.io; to check this host, run `containerd-shim-sysbox-v1 check`; see -help")
	}
	switch action {
	case "start":
		return start(f, stdin, stdout)
	case "delete":
		return remove(f, stdout)
	default:
		return daemon.Run(daemon.Config{
			Namespace:    f.namespace,
			Sandbox:      f.id,
			Address:      f.socket,
			TTRPCAddress: os.Getenv("TTRPC_ADDRESS"),
			Debug:        f.debug,
		})
	}
}

func start(f flags, stdin io.Reader, stdout io.Writer) error {
	dir, err := bundleDir(f)
	if err != nil {
		return err
	}
	in, err := io.ReadAll(io.LimitReader(stdin, maxStdin))
	if err != nil {
		return fmt.Errorf("read stdin: %w", err)
	}
	r := bootstrap.Request{
		Namespace:    f.namespace,
		ID:           f.id,
		Bundle:       dir,
		Address:      f.address,
		TTRPCAddress: os.Getenv("TTRPC_ADDRESS"),
		Debug:        f.debug,
	}
	r.Parse(in)
	// The caller may have exited. The answer then fails with EPIPE, and SIGPIPE must not end
	// this process before it cleans up. The daemon does not inherit the handler.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	s, err := r.Start()
	if err != nil {
		return fmt.Errorf("start a shim for %s: %w", f.id, err)
	}
	answer, err := r.Answer(s.Address)
	if err == nil {
		_, err = stdout.Write(answer)
	}
	if err != nil {
		s.Abandon()
		return fmt.Errorf("report the address of the shim for %s to the caller: %w", f.id, err)
	}
	return nil
}

// bundleDir returns the bundle of an action, which needs an id.
func bundleDir(f flags) (string, error) {
	if f.id == "" {
		return "", errors.New("-id is empty; it must be the container's id")
	}
	if f.bundle != "" {
		return f.bundle, nil
	}
	return os.Getwd()
}
