package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/config"
	"sysbox/runtime/feature"
	"sysbox/runtime/host"
	"sysbox/runtime/state"
)

// check prints what the kernel has of what the runtime uses, and what happens without it,
// which configuration there is, and whether a container starts: it makes one. The error says
// that none would start.
func check(w io.Writer) error {
	if os.Getuid() != 0 {
		return errors.New("check tries what the runtime does, which takes root; run it with sudo")
	}
	kernel, err := feature.Kernel()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Linux %v\n", kernel)
	around := host.Surroundings()
	if len(around) > 0 {
		fmt.Fprintf(w, "this process is kept from some of what the kernel has: %s. Run check where containerd runs, as the host's root, outside of containers, with all capabilities\n", strings.Join(around, "; "))
	}
	lacks := 0
	for _, f := range feature.All {
		err := f.Probe()
		switch {
		case err == nil:
			fmt.Fprintf(w, "yes   %s\n", f.Name)
			continue
		case f.Needed:
			lacks++
			fmt.Fprintf(w, "NO    %s, without which no container starts (since Linux %v): %v\n", f.Name, f.MinKernel, err)
		default:
			fmt.Fprintf(w, "no    %s (since Linux %v): %v\n", f.Name, f.MinKernel, err)
		}
		if len(around) > 0 && kernel.AtLeast(f.MinKernel) {
			f.WayOut = keptFrom
		}
		fmt.Fprintf(w, "      %s\n", f.WayOut)
	}
	cfg, err := checkConfig(w)
	if err != nil {
		return err
	}
	return tryContainer(w, cfg, lacks)
}

// tryContainer makes a container, and prints how that went. lacks is how many features are
// missing without which none starts.
func tryContainer(w io.Writer, cfg *config.Config, lacks int) error {
	// Its warnings are for whoever reads the rest.
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	err := try(context.Background(), log, cfg)
	switch {
	case err != nil:
		fmt.Fprintf(w, "NO    a container: %v\n", err)
		if hint := wayOut(err); hint != "" {
			fmt.Fprintf(w, "      %s\n", hint)
		}
		return fmt.Errorf("no container starts here: %w", err)
	case lacks > 0:
		fmt.Fprintf(w, "yes   a container, nevertheless\n")
		return fmt.Errorf("this host lacks %d of what no container should start without", lacks)
	}
	if missing := host.MissingCapabilities(); len(missing) > 0 {
		fmt.Fprintf(w, "NO    a container that is sure to be made and stopped\n")
		return fmt.Errorf("this process lacks %s; run check, and containerd, with all capabilities (CapabilityBoundingSet of its service)", strings.Join(missing, ", "))
	}
	fmt.Fprintf(w, "yes   a container: one was made, has run a program, and was removed\n")
	return nil
}

// keptFrom is the way out of what the kernel is new enough for.
const keptFrom = "the kernel is new enough for it; what keeps this process from it stands above"

// wayOut is what to do about an error of a container's, where the error does not say it; "" if
// nothing is known.
func wayOut(err error) string {
	switch {
	case len(host.Surroundings()) > 0:
		return "what keeps this process from it stands above"
	case errors.Is(err, unix.EROFS):
		return "let containerd and its shims write there, or name other directories in the configuration (state_dir, data_dir)"
	case errors.Is(err, unix.ENOSPC):
		return "make room there"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "look into the kernel's log for a security module (AppArmor, SELinux) that refuses it"
	}
	return ""
}

// checkConfig prints which configuration holds and which ids it gives, and where there are
// containers that were made with another.
func checkConfig(w io.Writer) (*config.Config, error) {
	cfg, err := config.Load("")
	if err != nil {
		return nil, err
	}
	name, _ := config.File()
	if _, err := os.Stat(name); err != nil {
		name += " is not there, so the defaults hold"
	}
	fmt.Fprintf(w, "configuration: %s\n", name)
	pool, err := cfg.Pool().Describe()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(w, "ids: %s\n", pool)
	for _, d := range state.Known() {
		n, err := d.Containers()
		if err != nil {
			return nil, err
		}
		if n > 0 && d.State != cfg.StateDir {
			fmt.Fprintf(w, "another state_dir: %s, containers recorded: %d\n", d.State, n)
		}
	}
	return cfg, nil
}
