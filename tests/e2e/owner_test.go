// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"syscall"
)

func owner(info os.FileInfo) (uid, gid uint32) {
	st := info.Sys().(*syscall.Stat_t)
	return st.Uid, st.Gid
}
