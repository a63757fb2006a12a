// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/harness"
	"sysbox/tests/peers"
)

// TestCheckInContainer: in a container, where it is refused what the kernel has, check says so
// and does not advise another kernel or sysctl: in one of ours, and in one of runc's.
func TestCheckInContainer(t *testing.T) {
	if why := skipped(); why != "" {
		t.Skip(why)
	}
	shim, err := peers.Shim()
	if err != nil {
		t.Fatal(err)
	}
	runc, err := peers.Runc()
	if err != nil {
		t.Fatal(err)
	}
	h := on(t, peers.Newest)
	binary := oci.WithMounts([]specs.Mount{{
		Type: "bind", Source: filepath.Join(shim, shimName), Destination: "/" + shimName, Options: []string{"bind", "ro"},
	}})
	args := oci.WithProcessArgs("/"+shimName, "check")
	for _, c := range []struct {
		name string
		runc *options.Options
		opts []oci.SpecOpts
		says []string
	}{
		{"ours", nil, nil, []string{"it runs in a user namespace, as in a container, with no more than 262144 ids", "a seccomp filter is around it"}},
		{"of runc's", &options.Options{BinaryName: filepath.Join(runc, "runc")}, []oci.SpecOpts{oci.WithCgroup("/sysbox-test-runc"), seccomp.WithDefaultProfile()}, []string{"it lacks CAP_SYS_ADMIN", "a seccomp filter is around it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := background(t)
			id := newID()
			runtime := containerd.WithRuntime(harness.Runtime, nil)
			if c.runc != nil {
				runtime = containerd.WithRuntime("io.containerd.runc.v2", c.runc)
			}
			opts := append([]oci.SpecOpts{oci.WithDefaultPathEnv, oci.WithImageConfig(h.busybox), binary, args}, c.opts...)
			ctr, err := h.Client.NewContainer(ctx, id, containerd.WithNewSnapshot(id, h.busybox), runtime, containerd.WithNewSpec(opts...))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := ctr.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
					t.Error(err)
				}
			}()
			var out output
			task, exit := h.task(t, ctr, out.creator())
			status := wait(t, exit)
			task.IO().Wait()
			if _, err := task.Delete(ctx); err != nil {
				t.Error(err)
			}
			said := out.String()
			if status != 1 || !strings.Contains(said, "\nFAILED  a container: ") || !strings.Contains(said, "this process is restricted: ") {
				t.Errorf("exit status %d", status)
			}
			for _, s := range c.says {
				if !strings.Contains(said, s) {
					t.Errorf("says nothing of %q", s)
				}
			}
			for _, s := range []string{"user.max_user_namespaces", "use Linux"} {
				if strings.Contains(said, s) {
					t.Errorf("advises %q", s)
				}
			}
			t.Logf("it says:\n%s", said)
		})
	}
}
