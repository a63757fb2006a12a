package shim

import (
	"errors"
	"fmt"
	"io"
	"os"

	"sysbox/runtime"
	"sysbox/runtime/feature"
)

// check prints what the kernel has of what the runtime uses, and what happens without it,
// and which configuration there is. The error says that no container would start.
func check(w io.Writer) error {
	if os.Getuid() != 0 {
		return errors.New("check tries what the runtime does, which takes root; run it with sudo")
	}
	kernel, err := feature.Kernel()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Linux %v\n", kernel)
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
		fmt.Fprintf(w, "      %s\n", f.WayOut)
	}
	configured := checkConfig(w)
	if lacks > 0 {
		return errors.Join(configured, fmt.Errorf("this kernel lacks %d of what no container starts without", lacks))
	}
	return configured
}

// checkConfig prints which configuration holds and which ids it gives.
func checkConfig(w io.Writer) error {
	cfg, err := runtime.LoadConfig()
	if err != nil {
		return err
	}
	name, _ := runtime.ConfigFile()
	if _, err := os.Stat(name); err != nil {
		name += " is not there, so the defaults hold"
	}
	fmt.Fprintf(w, "configuration: %s\n", name)
	pool, err := cfg.Pool().Describe()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "ids: %s\n", pool)
	return err
}
