// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"log/slog"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"
)

// maxStacks bounds a dump: the log FIFO holds 64 KiB.
const maxStacks = 48 << 10

// handleSignals ends the shim on SIGTERM and SIGINT, dumps stacks on SIGUSR1
// and reaps on SIGCHLD. It catches SIGPIPE and does not ignore it: children would
// inherit an ignored signal.
func handleSignals(log *slog.Logger, shutdown func(), r *reaper) {
	ch := make(chan os.Signal, 32)
	signal.Notify(ch, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGCHLD, unix.SIGPIPE)
	go func() {
		for s := range ch {
			switch s {
			case unix.SIGTERM, unix.SIGINT:
				log.Info("the shim exits on a signal", "signal", s)
				shutdown()
			case unix.SIGUSR1:
				buf := make([]byte, maxStacks)
				log.Info("stacks", "dump", string(buf[:runtime.Stack(buf, true)]))
			case unix.SIGCHLD:
				r.poke()
			}
		}
	}()
}
