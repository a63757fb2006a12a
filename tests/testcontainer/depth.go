// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"fmt"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// Deep nests this many directories of one name in a directory, by one thread that goes down with
// them: no path reaches the last ones.
func Deep(at, name string, depth int) error {
	goruntime.LockOSThread()
	if err := unix.Chdir(at); err != nil {
		return err
	}
	for i := range depth {
		if err := unix.Mkdir(name, 0o755); err != nil {
			return fmt.Errorf("folder %d: %w", i, err)
		}
		if err := unix.Chdir(name); err != nil {
			return err
		}
	}
	return nil
}

// Allocated are the bytes that this process has taken since it began.
func Allocated() uint64 {
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return m.TotalAlloc
}
