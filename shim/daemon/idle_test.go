// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestIdle(t *testing.T) {
	var looks atomic.Int32
	done := make(chan struct{})
	watchIdle(func() bool {
		return looks.Add(1) != 3 // once, somebody was there
	}, func() { close(done) }, time.Millisecond)
	<-done
	if n := looks.Load(); n != 3+idleLooks {
		t.Errorf("ended after %d looks, want %d", n, 3+idleLooks)
	}
}
