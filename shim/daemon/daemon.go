// SPDX-License-Identifier: Apache-2.0

// Package daemon is the long-lived process of the shim: it serves the task API
// on the socket that start has made, reaps orphans, and exits when its pod is
// gone.
//
// What does not belong here: the task API itself (package task), and what must
// be done before start answers (package bootstrap).
package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"sysbox/shim/bootstrap"
	"sysbox/shim/event"
	"sysbox/shim/task"
)

const (
	// gcPercent trades a little CPU time for memory: a shim is idle for most of its
	// life, and there is one for each pod.
	gcPercent = 40
	// gcPercentFirst applies until memoryDelay has passed: at a percentage of 40 a
	// heap of a few MiB is collected several times while the first container is
	// made, and the user waits. Measured: a create is 10 to 13 % shorter, and the
	// shim is smaller by 1 MiB.
	gcPercentFirst = 400
)

const (
	// flushTimeout bounds the delivery of the last events.
	flushTimeout = 5 * time.Second
	// leaveTimeout bounds the wait for callers to take their last answers and
	// disconnect; containerd does so at once.
	leaveTimeout = 500 * time.Millisecond
)

// Config is what start passes to the daemon.
type Config struct {
	Namespace string
	// Sandbox is the name of the pod.
	Sandbox string
	// Address of the socket, unix:///path.
	Address string
	// TTRPCAddress is where events go; empty: events are dropped.
	TTRPCAddress string
	Debug        bool
}

// Run serves until the pod is gone or a signal arrives.
func Run(cfg Config) error {
	// First of all: no process of a container may ever inspect this process.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the shim non-dumpable: %w", err)
	}
	// Executed through /proc/self/exe, it would be "exe" in ps and in the
	// kernel log.
	if err := os.WriteFile("/proc/self/comm", []byte("containerd-shim"), 0); err != nil {
		return fmt.Errorf("name the shim: %w", err)
	}
	debug.SetGCPercent(gcPercentFirst)
	time.AfterFunc(memoryDelay, func() { debug.SetGCPercent(gcPercent) })
	log := newLogger(cfg)
	if err := run(cfg, log); err != nil {
		log.Error("the shim exits", "err", err)
		return err
	}
	return nil
}

func run(cfg Config, log *slog.Logger) error {
	// Processes whose parents die become children of the shim, not of pid 1.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of orphans: %w", err)
	}
	listener, err := inherited()
	if err != nil {
		return err
	}
	defer listener.Close()
	// containerd will remove the bundle, the working directory, while the shim runs.
	if err := os.Chdir("/"); err != nil {
		return err
	}

	stop := make(chan struct{})
	var once sync.Once
	shutdown := func() { once.Do(func() { close(stop) }) }

	events := event.NewQueue(cfg.TTRPCAddress, cfg.Namespace, log)
	pod := task.RuntimePod(log, cfg.Namespace, cfg.Sandbox)
	service := task.NewService(cfg.Namespace, pod, events, log, shutdown)
	handleSignals(log, shutdown, newReaper(service.Known, log))

	callers := newConnections()
	memory := newMemoryReleaser()
	srv, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(callers), ttrpc.WithUnaryServerInterceptor(
		func(ctx context.Context, u ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, m ttrpc.Method) (any, error) {
			defer memory.active()
			return m(ctx, u)
		}))
	if err != nil {
		return err
	}
	register(srv, service)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), listener) }()
	go watchIdle(func() bool { return callers.none() && service.Empty() }, shutdown, idleLook)
	log.Debug("serving", "address", cfg.Address)

	select {
	case <-stop:
		err = nil
	case err = <-served:
	}
	// From now on a start for this pod makes a new socket. Ours must go before the
	// listener closes, or we could remove the new one.
	if path, ok := strings.CutPrefix(cfg.Address, "unix://"); ok {
		os.Remove(path)
	}
	listener.Close()
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	events.Close(ctx)
	callers.wait(leaveTimeout)
	srv.Close()
	if !service.Empty() {
		// A signal ended the shim: containers that still run keep their ids, and the
		// delete action will return them.
		return err
	}
	if cerr := pod.Close(); cerr != nil {
		log.Error("release the resources of the pod", "err", cerr)
	}
	return err
}

// inherited returns the listening socket that start left at a fixed fd number.
func inherited() (net.Listener, error) {
	unix.CloseOnExec(bootstrap.ListenerFD)
	f := os.NewFile(bootstrap.ListenerFD, "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("no listening socket at fd %d: %w; only the action start can start the daemon, see -help", bootstrap.ListenerFD, err)
	}
	return l, nil
}
