package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sysbox/runtime"
	"sysbox/shim/bootstrap"
	"sysbox/shim/bundle"
)

// deleteTimeout is what is left of containerd's five seconds for a delete.
const deleteTimeout = 4500 * time.Millisecond

// remove is the delete action: it removes what a dead shim left of one
// container. containerd calls it after every normal removal too, so that
// mostly there is nothing to do.
func remove(f flags, stdout io.Writer) error {
	dir, err := bundleDir(f)
	if err != nil {
		return err
	}
	switch path, err := bundle.ReadConfigPath(dir); {
	case err == nil:
		os.Setenv("SYSBOX_CONFIG_FILE", path)
	case !errors.Is(err, fs.ErrNotExist):
		// Another configuration has other folders, where nothing would be found.
		return fmt.Errorf("find the configuration that container %s was made with: %w; write its path to the file", f.id, err)
	}
	cfg, err := runtime.LoadConfig()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	exit, err := cleanup(ctx, cfg, f, dir)
	if err != nil {
		return fmt.Errorf("clean up container %s: %w", f.id, err)
	}
	if address, err := bundle.ReadAddress(dir); err == nil {
		// Best effort: the next start replaces a dead socket as well.
		_ = bootstrap.RemoveDead(address)
	}
	b, err := proto.Marshal(&task.DeleteResponse{
		Pid:        uint32(exit.Pid),
		ExitStatus: uint32(exit.Status),
		ExitedAt:   timestamppb.New(exit.At),
	})
	if err != nil {
		return err
	}
	_, err = stdout.Write(b)
	return err
}

// cleanup calls the runtime and gives up waiting at ctx's end, whatever the
// kernel does to a blocked call: the process exits next, and containerd may
// call again. What exit.json says of init's end wins over the runtime's guess.
func cleanup(ctx context.Context, cfg *runtime.Config, f flags, dir string) (bundle.Exit, error) {
	type result struct {
		exit runtime.Exit
		err  error
	}
	done := make(chan result, 1)
	go func() {
		e, err := runtime.Cleanup(ctx, cfg, f.namespace, f.id, dir)
		done <- result{e, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = context.Cause(ctx)
	}
	if r.err != nil {
		return bundle.Exit{}, r.err
	}
	if e, err := bundle.ReadExit(dir); err == nil {
		return e, nil
	}
	pid, _ := bundle.ReadInitPid(dir)
	if r.exit.At.IsZero() {
		r.exit.At = time.Now()
	}
	return bundle.Exit{Pid: pid, Status: r.exit.Status, At: r.exit.At}, nil
}
