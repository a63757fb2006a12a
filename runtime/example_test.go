// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"sysbox/runtime"
	"sysbox/runtime/config"
)

// A pod makes containers from bundles. This needs root, and a bundle: a directory with a
// config.json (runtime-spec, bundle.md) and the root file system that it names.
func Example() {
	cfg, err := config.Load("")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	pod := runtime.NewPod(cfg, slog.Default(), "default", "sandbox")
	defer pod.Close()

	// Create makes all namespaces, mounts and cgroups. Init waits before its execve.
	c, err := pod.Create(ctx, runtime.CreateRequest{
		ID: "demo", Bundle: "/path/to/the/bundle", Stdio: runtime.Stdio{Stdout: os.Stdout, Stderr: os.Stderr},
	})
	if err != nil {
		fmt.Println(err) // one sentence: the field, its value, why, and what to do
		return
	}
	defer c.Delete(ctx)
	fmt.Println("init is process", c.Init().Pid())

	if err := c.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	exit, err := c.Init().Wait(ctx)
	fmt.Println("exit status", exit.Status, err)
}
