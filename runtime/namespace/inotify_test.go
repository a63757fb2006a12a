// SPDX-License-Identifier: Apache-2.0

package namespace_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

// TestInotifyOfOthers: the kernel counts instances of inotify for each user, and those of a
// user namespace for who has made it as well, up to a limit of the host's. A container that
// takes all it gets takes nothing from the next pod, nor from the host's root.
func TestInotifyOfOthers(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	if err != nil {
		t.Fatal(err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || limit > 10000 {
		t.Skipf("takes most of the instances of inotify that a user may have, and %d are too many for it, %v", limit, err)
	}
	first := testcontainer.NewPod(t)
	for _, p := range []*testcontainer.Pod{first, first.Beside("second")} {
		r, says, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		c := testcontainer.Create(t, p, runtime.CreateRequest{ID: p.Name, Bundle: inotifyInside.Bundle(t, nil), Stdio: runtime.Stdio{Stdout: says}})
		err = c.Start(t.Context())
		says.Close()
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, _ := r.Read(buf)
		if got, err := strconv.Atoi(strings.TrimSpace(string(buf[:n]))); err != nil || got < limit*3/4 {
			t.Errorf("a container of the pod %s gets %q of %d instances", p.Name, buf[:n], limit)
		}
	}
}

var inotifyInside = testcontainer.Inside("inotify", func() error {
	n := 0
	for ; n < 10000; n++ {
		if _, err := unix.InotifyInit1(0); err != nil {
			break
		}
	}
	fmt.Println(n)
	select {}
})
