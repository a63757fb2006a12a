// SPDX-License-Identifier: Apache-2.0

package daemon

import "time"

const (
	// idleLook is how often a shim checks whether it is still needed.
	idleLook = time.Minute
	// idleLooks checks in a row without a container or a caller end the shim.
	idleLooks = 5
)

// watchIdle ends a shim that containerd has forgotten: after a failed start or a
// crash of its own, containerd removes the bundle without calling Shutdown. A shim
// without containers holds nothing, and the next start makes another.
func watchIdle(idle func() bool, shutdown func(), look time.Duration) {
	n := 0
	for range time.Tick(look) {
		if !idle() {
			n = 0
			continue
		}
		if n++; n == idleLooks {
			shutdown()
			return
		}
	}
}
