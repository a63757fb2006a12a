// SPDX-License-Identifier: Apache-2.0

package task

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"
)

// TestErrorsOfCallers: what a caller prints of an error is its one sentence, whatever it
// wraps, and the class by which containerd decides is kept.
func TestErrorsOfCallers(t *testing.T) {
	other := errors.New("no shift")
	for _, c := range []struct {
		err   error
		class error // nil: none
		want  string
	}{
		{fmt.Errorf("mount /x: %w: mount_setattr: %w; use another", other, unix.EINVAL), nil, "mount /x: no shift: mount_setattr: invalid argument; use another"},
		{fmt.Errorf("c1: %w: %w", other, errdefs.ErrNotFound), errdefs.ErrNotFound, "c1: no shift: not found"},
		{errors.Join(other, unix.EINVAL), nil, "no shift; invalid argument"},
	} {
		got := errgrpc.ToNative(toGRPC(c.err))
		if got.Error() != c.want || c.class != nil && !errors.Is(got, c.class) {
			t.Errorf("a caller has %q (of the class %v: %v), want %q", got, c.class, errors.Is(got, c.class), c.want)
		}
	}
}
