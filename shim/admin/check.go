// SPDX-License-Identifier: Apache-2.0

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

// check prints which kernel features are present and what happens without the others, which
// configuration is in effect, and whether a container starts: it creates one. It returns an
// error if no container would start.
func check(w io.Writer) error {
	if os.Getuid() != 0 {
		return errors.New("check needs root, because it does what the runtime does; run it with sudo")
	}
	kernel, err := feature.Kernel()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Linux %v\n", kernel)
	around := host.Surroundings()
	if len(around) > 0 {
		fmt.Fprintf(w, "this process is restricted: %s. Run check where containerd runs: as root on the host, outside of containers, with all capabilities\n", strings.Join(around, "; "))
	}
	missing := 0
	for _, f := range feature.All {
		err := f.Probe()
		switch {
		case err == nil:
			fmt.Fprintf(w, "yes     %s\n", f.Name)
			continue
		case f.Needed:
			missing++
			fmt.Fprintf(w, "MISSING %s (required; Linux %v or newer): %v\n", f.Name, f.MinKernel, err)
		default:
			fmt.Fprintf(w, "no      %s (optional; Linux %v or newer): %v\n", f.Name, f.MinKernel, err)
		}
		if len(around) > 0 && kernel.AtLeast(f.MinKernel) {
			f.Hint = restrictedHint
		}
		fmt.Fprintf(w, "        %s\n", f.Hint)
	}
	cfg, err := checkConfig(w)
	if err != nil {
		return err
	}
	return tryContainer(w, cfg, missing)
}

// tryContainer creates a container and prints the result. missing counts the required
// features that this kernel lacks.
func tryContainer(w io.Writer, cfg *config.Config, missing int) error {
	// The runtime's warnings go to w, too.
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	err := try(context.Background(), log, cfg)
	switch {
	case err != nil:
		fmt.Fprintf(w, "FAILED  a container: %v\n", err)
		if hint := hintFor(err); hint != "" {
			fmt.Fprintf(w, "        %s\n", hint)
		}
		return fmt.Errorf("containers do not start on this host: %w", err)
	case missing > 0:
		fmt.Fprintf(w, "yes     a container: it started although required kernel features are missing\n")
		return fmt.Errorf("required kernel features missing: %d", missing)
	}
	if missing := host.MissingCapabilities(); len(missing) > 0 {
		fmt.Fprintf(w, "FAILED  a container: without these capabilities the runtime may fail to create or to stop one: %s\n", strings.Join(missing, ", "))
		return fmt.Errorf("this process lacks %s; run check and containerd with all capabilities (CapabilityBoundingSet of its service)", strings.Join(missing, ", "))
	}
	fmt.Fprintf(w, "yes     a container: created, ran a program, removed\n")
	return nil
}

// restrictedHint is the hint for a missing feature that this kernel is new enough to have.
const restrictedHint = "the kernel is new enough; the restriction of this process shown above is the likely cause"

// hintFor says what the administrator can do about an error of the trial container, if the
// error itself does not; "" if nothing is known.
func hintFor(err error) string {
	switch {
	case len(host.Surroundings()) > 0:
		return "the restriction of this process shown above is the likely cause"
	case errors.Is(err, unix.EROFS):
		return "let containerd and its shims write there, or name other directories in the configuration (state_dir, data_dir)"
	case errors.Is(err, unix.ENOSPC):
		return "free some space there"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "look in the kernel log for a security module (AppArmor, SELinux) that denies it"
	}
	return ""
}

// checkConfig prints which configuration is in effect and which ids it gives, and lists other
// state directories that still have containers.
func checkConfig(w io.Writer) (*config.Config, error) {
	cfg, err := config.Load("")
	if err != nil {
		return nil, err
	}
	name, _ := config.File()
	if _, err := os.Stat(name); err != nil {
		name += " does not exist; the defaults apply"
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
