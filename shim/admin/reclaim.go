// SPDX-License-Identifier: Apache-2.0

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

// reclaim removes what dead shims left and prints what it removed.
func reclaim(w io.Writer) error {
	if os.Getuid() != 0 {
		return errors.New("reclaim needs root, because it removes what containers left; run it with sudo")
	}
	// Only the configuration names the directories of containers of earlier versions.
	configured, unread := config.Dirs("")
	if unread != nil {
		configured = state.Defaults()
		fmt.Fprintf(w, "skipping the directories of the configuration, which cannot be read: %v; cleaning up the directories of containers made since boot\n", unread)
	}
	removed, err := runtime.Reclaim(context.Background(), slog.Default(), configured)
	for _, r := range removed {
		fmt.Fprintf(w, "removed %s\n", r)
	}
	if err == nil && len(removed) == 0 {
		_, err = io.WriteString(w, "nothing to clean up\n")
	}
	return err
}
