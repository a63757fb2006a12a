// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLoadAmongSignals: the signals of Go's scheduler, at which the kernel's verifier gives
// up, do not keep a program from being loaded.
func TestLoadAmongSignals(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("loads a BPF program, which takes root")
	}
	insns := make([]BPFInsn, 4000)
	for i := range insns {
		insns[i] = BPFInsn{Code: 0xb7, Imm: 1} // r0 = 1
	}
	insns[len(insns)-1] = BPFInsn{Code: 0x95} // return r0
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var over atomic.Bool
	done := make(chan error)
	pid, tid := os.Getpid(), unix.Gettid()
	go func() {
		var err error
		for err == nil && !over.Load() {
			err = unix.Tgkill(pid, tid, unix.SIGURG)
		}
		done <- err
	}()
	for range 20 {
		f, err := LoadDeviceProgram("sysbox_test", insns)
		if err != nil {
			t.Error(err)
			break
		}
		f.Close()
	}
	over.Store(true)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
