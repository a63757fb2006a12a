package runtime

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
)

// TestTrapUnkillable: a file system of the container's takes requests and never answers, by
// which whoever asks becomes one that no signal ends. A process that asks for a caller is
// one of the container's cgroups, so that it counts there, and ends with the container.
func TestTrapUnkillable(t *testing.T) {
	const callers = 10
	bundle := insideBundle(t, "trap swallow", nil)
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: bundle})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var inside, outside []string
	for deadline := time.Now().Add(20 * time.Second * pace.Patience()); len(inside) < callers && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		inside, outside = nil, nil
		for _, pid := range setUpProcesses(t) {
			cgroups, err := os.ReadFile("/proc/" + pid + "/cgroup")
			switch {
			case err != nil:
			case strings.Count(string(cgroups), "\n") == strings.Count(string(cgroups), "/"+filepath.Base(bundle)+"\n"):
				inside = append(inside, pid)
			default:
				outside = append(outside, pid)
			}
		}
	}
	if len(inside) != callers || len(outside) > 0 {
		t.Errorf("in the container's cgroups are %v, and elsewhere %v", inside, outside)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if left := setUpProcesses(t); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// setUpProcesses are the children of this process that execute a program of system calls.
func setUpProcesses(t *testing.T) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		stat, err := os.ReadFile(p + "/stat")
		if f := strings.Fields(string(stat)); err == nil && len(f) > 3 && f[1] == "(sysbox-init)" && f[3] == fmt.Sprint(os.Getpid()) {
			pids = append(pids, filepath.Base(p))
		}
	}
	return pids
}

// swallow mounts a file system of FUSE whose server, the goroutine that calls serve, takes
// all requests, tells of it, and answers none but the first.
func swallow(dir string) (serve func(taken func()) error, err error) {
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR, 0)
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err == nil {
		err = unix.Mount("swallow", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse))
	}
	return func(taken func()) error {
		buf := make([]byte, 1<<18)
		for {
			if _, err := unix.Read(fuse, buf); err != nil {
				return err
			}
			le := binary.LittleEndian
			op, id := le.Uint32(buf[4:]), le.Uint64(buf[8:])
			if op != 26 { // FUSE_INIT
				taken()
				continue
			}
			out := make([]byte, 16+64) // struct fuse_out_header, fuse_init_out
			le.PutUint32(out, uint32(len(out)))
			le.PutUint64(out[8:], id)
			le.PutUint32(out[16:], 7)
			le.PutUint32(out[20:], 31)
			le.PutUint32(out[24:], 1<<17)
			le.PutUint32(out[36:], 1<<17) // max_write
			if _, err := unix.Write(fuse, out); err != nil {
				return fmt.Errorf("init: %w", err)
			}
		}
	}, err
}

func init() {
	routines["trap swallow"] = func() error {
		serve, err := swallow("/root/f")
		if err != nil {
			return err
		}
		os.Mkdir("/root/m", 0o755)
		for i := range 10 {
			go func() {
				_ = unix.Mount("overlay", "/root/m", "overlay", 0, fmt.Sprintf("lowerdir=/root/f/%d:/root", i))
			}()
		}
		return serve(func() {})
	}
}
