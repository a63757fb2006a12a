package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/runtime/state"
)

// reclaim removes what dead shims left, and prints it.
func reclaim(w io.Writer) error {
	if os.Getuid() != 0 {
		return errors.New("reclaim removes what containers left, which takes root; run it with sudo")
	}
	// Containers of versions before are known by the configuration alone.
	configured, unread := config.Dirs("")
	if unread != nil {
		configured = state.Defaults()
		fmt.Fprintf(w, "the directories of containers made since the host has booted are looked at, but not those of the configuration: %v\n", unread)
	}
	removed, err := runtime.Reclaim(context.Background(), slog.Default(), configured)
	for _, r := range removed {
		fmt.Fprintf(w, "removed %s\n", r)
	}
	if err == nil && len(removed) == 0 {
		_, err = io.WriteString(w, "nothing is left of dead shims\n")
	}
	return err
}
