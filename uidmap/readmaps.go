// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"errors"
	"os"
	"strings"
)

// ReadMaps reads the maps of the user namespace at /proc/PID/ns/user. The maps of a
// namespace that is pinned elsewhere cannot be read.
func ReadMaps(nsPath string) (uid, gid Map, err error) {
	proc, ok := strings.CutSuffix(nsPath, "/ns/user")
	if !ok || !strings.HasPrefix(proc, "/proc/") {
		return nil, nil, errors.New("its maps can only be read through /proc/PID/ns/user")
	}
	if uid, err = readMap(proc + "/uid_map"); err != nil {
		return nil, nil, err
	}
	gid, err = readMap(proc + "/gid_map")
	return uid, gid, err
}

func readMap(name string) (Map, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, nil
	}
	return Parse(string(b))
}
