package daemon

import "time"

const (
	// idleLook is how often a shim looks whether it is still of use.
	idleLook = time.Minute
	// idleLooks in a row without a container or a caller end it.
	idleLooks = 5
)

// watchIdle ends a shim that has been forgotten: after a failed start or a
// crash of its own, containerd removes the bundle without a Shutdown. A shim
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
