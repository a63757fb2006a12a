// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"os"
	"path/filepath"
)

// The newest of Docker: the engine has versions of its own as a Go module; the command
// line is none, and goes by its release.
const (
	DockerEngine  = "2.0.0-beta.24"
	DockerCommand = "29.9.3"
)

// Docker builds dockerd, docker-proxy and docker as static programs and returns the
// folder that has them.
func Docker() (string, error) {
	return Once("docker-"+DockerEngine+"-"+DockerCommand, func(dir string) error {
		const engine = "github.com/moby/moby/v2"
		for _, cmd := range []string{"dockerd", "docker-proxy"} {
			err := installAs(dir, engine+"/cmd/"+cmd+"@v"+DockerEngine, engine+"/dockerversion.Version="+DockerEngine,
				"CGO_ENABLED=0", "GOFLAGS=-tags=exclude_graphdriver_btrfs,exclude_graphdriver_zfs")
			if err != nil {
				return err
			}
		}
		return inCopy("github.com/docker/cli@v"+DockerCommand+"+incompatible", func(src string) error {
			for _, ext := range []string{"mod", "sum"} {
				if err := os.Rename(filepath.Join(src, "vendor."+ext), filepath.Join(src, "go."+ext)); err != nil {
					return err
				}
			}
			// The version that the engine has; the one asked for is not served everywhere.
			if err := goIn(src, "mod", "edit", "-require=github.com/moby/swarmkit/v2@v2.1.3-0.20260828175525-ad0357aedfca"); err != nil {
				return err
			}
			return goIn(src, "build", "-mod=mod", "-trimpath", "-ldflags="+strip+" -X github.com/docker/cli/cli/version.Version="+DockerCommand, "-o", dir+"/", "./cmd/docker")
		})
	})
}
