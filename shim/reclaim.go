package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sysbox/runtime"
)

// reclaim removes what dead shims left, and prints it.
func reclaim(w io.Writer) error {
	if os.Getuid() != 0 {
		return errors.New("reclaim removes what containers left, which takes root; run it with sudo")
	}
	cfg, err := runtime.LoadConfig()
	if err != nil {
		return err
	}
	removed, err := runtime.Reclaim(context.Background(), cfg)
	for _, r := range removed {
		fmt.Fprintf(w, "removed %s\n", r)
	}
	if err == nil && len(removed) == 0 {
		_, err = io.WriteString(w, "nothing is left of dead shims\n")
	}
	return err
}
