// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
)

// maxDockerConfig bounds an image's /etc/docker/daemon.json, in bytes.
const maxDockerConfig = 64 << 10

// AddDockerRoot gives storage to the data-root that the image's Docker is told to use.
func AddDockerRoot(p *plan.Plan, root *os.File) error {
	f, err := Open(root, plan.DockerConfig)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	var text []byte
	if err == nil {
		defer f.Close()
		text, err = io.ReadAll(io.LimitReader(f, maxDockerConfig+1))
	}
	if err == nil && len(text) > maxDockerConfig {
		err = &os.PathError{Op: "read in the image", Path: plan.DockerConfig, Err: fmt.Errorf("more than %d bytes", maxDockerConfig)}
	}
	if err != nil {
		return fmt.Errorf("no storage for Docker's data-root: %w", err)
	}
	return p.AddDockerRoot(text)
}
