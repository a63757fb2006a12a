package shim

import (
	"errors"
	"fmt"
	"io"
	"os"

	"sysbox/runtime/feature"
)

// check prints what the kernel has of what the runtime uses, and what happens without it.
// The error says that no container would start.
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
	if lacks > 0 {
		return fmt.Errorf("this kernel lacks %d of what no container starts without", lacks)
	}
	return nil
}
