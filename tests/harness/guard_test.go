// SPDX-License-Identifier: Apache-2.0

package harness_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/leak"
	"sysbox/tests/pace"
	"sysbox/tests/peers"
)

const victim = "SYSBOX_HARNESS_VICTIM"

// TestGuard: a test that is killed with a live container leaves nothing.
func TestGuard(t *testing.T) {
	if os.Getenv(victim) != "" {
		beVictim(t)
		return
	}
	if testing.Short() {
		t.Skip("starts containerd, which -short leaves out")
	}
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	tmp := t.TempDir()
	// Everything of the victim's has this folder's name in its command line.
	o := leak.Options{Match: func(line string) bool { return strings.Contains(line, tmp) }}
	before, err := leak.Take(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestGuard$")
	cmd.Env = append(os.Environ(), victim+"=1", "TMPDIR="+tmp)
	cmd.Stderr = os.Stderr
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	if err != nil || said != "ready\n" {
		t.Fatalf("the victim said %q, %v", said, err)
	}
	for deadline := time.Now().Add(time.Minute * pace.Patience()); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if left, _ := filepath.Glob(tmp + "/sysbox-*"); len(left) == 0 {
			break
		}
	}
	if left, _ := filepath.Glob(tmp + "/sysbox-*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	found, err := leak.Compare(before, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range found {
		t.Error(s)
	}
}

func beVictim(t *testing.T) {
	ctx := namespaces.WithNamespace(context.Background(), harness.Namespace)
	archive, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	c, err := harness.Start(ctx, peers.Newest)
	if err != nil {
		t.Fatal(err)
	}
	image, err := c.Load(ctx, archive)
	if err != nil {
		t.Fatal(err)
	}
	ctr, err := c.Client.NewContainer(ctx, "victim", containerd.WithNewSnapshot("victim", image), containerd.WithRuntime(harness.Runtime, nil),
		containerd.WithNewSpec(oci.WithDefaultPathEnv, oci.WithImageConfig(image), oci.WithProcessArgs("sleep", "1000")))
	if err != nil {
		t.Fatal(err)
	}
	task, err := ctr.NewTask(ctx, cio.NullIO)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Start(ctx); err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
}
