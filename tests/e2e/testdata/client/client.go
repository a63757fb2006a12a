// Command client runs a container of a docker archive's image through containerd's
// client library, as tools other than ctr do: import, unpack with the overlayfs
// snapshotter, run, exec, delete.
//
// What does not belong here: what a test wants to see of these.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(socket, archive string) (err error) {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), "client"), time.Minute)
	defer cancel()
	client, err := containerd.New(socket)
	if err != nil {
		return err
	}
	defer client.Close()
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	list, err := client.Import(ctx, f)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	image := containerd.NewImage(client, list[0])
	if err := image.Unpack(ctx, "overlayfs"); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	c, err := client.NewContainer(ctx, "c1", containerd.WithImage(image), containerd.WithSnapshotter("overlayfs"),
		containerd.WithNewSnapshot("c1", image), containerd.WithNewSpec(oci.WithImageConfig(image), oci.WithProcessArgs("sleep", "100")))
	if err != nil {
		return err
	}
	defer func() {
		if e := c.Delete(ctx, containerd.WithSnapshotCleanup); err == nil {
			err = e
		}
	}()
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	exit, err := task.Wait(ctx)
	if err != nil {
		return err
	}
	if err := task.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	var out bytes.Buffer
	p, err := task.Exec(ctx, "x1", &specs.Process{
		Cwd: "/", Env: []string{"PATH=/bin"},
		// The kernel's overlay, and what userxattr is needed for.
		Args: []string{"sh", "-c", "exec 2>&1; grep -o '^overlay / overlay' /proc/mounts && rm -r /etc/group && mkdir /q && rmdir /q && echo changed"},
	}, cio.NewCreator(cio.WithStreams(nil, &out, io.Discard)))
	if err != nil {
		return err
	}
	ended, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	status := <-ended
	p.IO().Wait()
	if _, err := p.Delete(ctx); err != nil {
		return err
	}
	if err := task.Kill(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	end := <-exit
	if _, err := task.Delete(ctx); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	fmt.Printf("%sexec %d, end %d\n", out.String(), status.ExitCode(), end.ExitCode())
	return nil
}
