// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// newLogger writes lines of time, level, msg and fields to stderr, which start
// has connected to the log FIFO of the caller; containerd copies them to its own log.
func newLogger(cfg Config) *slog.Logger {
	level := slog.LevelInfo
	if cfg.Debug {
		level = slog.LevelDebug
	}
	h := slog.NewTextHandler(stderr(), &slog.HandlerOptions{Level: level})
	return slog.New(h).With("runtime", "sysbox", "namespace", cfg.Namespace, "sandbox", cfg.Sandbox)
}

// stderr never blocks: if nobody reads the FIFO and it is full, lines are
// lost.
func stderr() io.Writer {
	var st unix.Stat_t
	if unix.Fstat(unix.Stderr, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
		if err := unix.SetNonblock(unix.Stderr, true); err == nil {
			return rawFD(unix.Stderr)
		}
	}
	return os.Stderr
}

// rawFD writes without Go's poller, which would block.
type rawFD int

func (fd rawFD) Write(b []byte) (int, error) {
	for {
		n, err := unix.Write(int(fd), b)
		if err == unix.EINTR {
			continue
		}
		return max(n, 0), err
	}
}
