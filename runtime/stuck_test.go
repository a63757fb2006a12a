package runtime

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
)

// TestStuckInFUSE: a container whose processes wait for a file system that they serve
// themselves, and that is mounted nowhere any more, can be deleted; nobody else's file
// system is harmed.
func TestStuckInFUSE(t *testing.T) {
	for _, routine := range []string{"fuse stuck", "fuse stuck detached"} {
		t.Run(routine, func(t *testing.T) {
			p := testPod(t, "pod")
			r, ready, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			c := create(t, p, CreateRequest{ID: "c1", Bundle: insideBundle(t, routine, nil), Stdio: Stdio{Stdout: ready}})
			err = c.Start(t.Context())
			ready.Close()
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			if n, _ := r.Read(buf); string(buf[:n]) != "stuck\n" {
				t.Fatalf("the container says %q", buf[:n])
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second*pace.Patience())
			defer cancel()
			if err := c.Delete(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

func init() {
	stuck := func(detach bool) func() error {
		return func() error {
			serve, err := swallow("/root/f")
			if err != nil {
				return err
			}
			dir, err := unix.Open("/root/f", unix.O_PATH, 0)
			if err != nil {
				return err
			}
			if detach {
				if err := unix.Unmount("/root/f", unix.MNT_DETACH); err != nil {
					return err
				}
			}
			taken := make(chan bool, 100)
			go serve(func() { taken <- true })
			for i := range 3 {
				go unix.Mkdirat(dir, fmt.Sprint(i), 0o755)
			}
			<-taken // the others wait for the folder, or as this one
			fmt.Println("stuck")
			select {}
		}
	}
	routines["fuse stuck"], routines["fuse stuck detached"] = stuck(false), stuck(true)
}
