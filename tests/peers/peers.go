// SPDX-License-Identifier: Apache-2.0

// Package peers builds the programs that the tests run beside the shim, at
// pinned versions, into a cache that outlives a test run.
//
// What does not belong here: starting them (package harness).
package peers

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Versions of containerd that the shim is tested under: the newest, the one with long
// support, the one before, the last that starts shims by the old protocol, and the one that
// Debian 12 has, as Debian has built it.
const (
	Newest   = "2.4.2"
	LTS      = "2.3.7"
	Before   = "2.2.9"
	OldStart = "1.7.35"
	Debian   = "1.6.20"
)

// Cache is the folder for what is slow to make: $SYSBOX_TEST_CACHE, else
// .cache in the repository.
func Cache() (string, error) {
	dir := os.Getenv("SYSBOX_TEST_CACHE")
	if dir == "" {
		root, err := Repository()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, ".cache")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// Repository is the folder that has go.mod: $SYSBOX_TEST_REPOSITORY where there is no go.
func Repository() (string, error) {
	if dir := os.Getenv("SYSBOX_TEST_REPOSITORY"); dir != "" {
		return dir, nil
	}
	out, err := exec.Command("go", "env", "GOMOD").Output()
	mod := strings.TrimSpace(string(out))
	if err != nil || mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("find the repository: go env GOMOD says %q: %w", mod, err)
	}
	return filepath.Dir(mod), nil
}

// Once makes a file or folder of the cache, unless it is there. make gets the
// path of a new, empty folder and returns what of it to keep. Processes that
// want the same thing wait for the first.
func Once(name string, make func(dir string) error) (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	out := filepath.Join(cache, name)
	if _, err := os.Stat(out); err == nil { // all of it, and perhaps on a read-only file system
		return out, nil
	}
	lock, err := os.OpenFile(filepath.Join(cache, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer sys.Unlock(lock)
	if err := sys.Flock(lock, unix.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	tmp := out + ".part"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", err
	}
	if err := make(tmp); err != nil {
		return "", fmt.Errorf("make %s: %w", name, err)
	}
	return out, os.Rename(tmp, out)
}

// Containerd builds containerd, ctr and containerd-shim-runc-v2 of a version
// and returns the folder that has them.
func Containerd(version string) (string, error) {
	return Once("containerd-"+version, func(dir string) error {
		if version == Debian {
			return debian(dir)
		}
		if strings.HasPrefix(version, "1.") {
			return buildIn(dir, "github.com/containerd/containerd@v"+version, "./cmd/containerd", "./cmd/ctr", "./cmd/containerd-shim-runc-v2")
		}
		for _, cmd := range []string{"containerd", "ctr", "containerd-shim-runc-v2"} {
			if err := install(dir, "github.com/containerd/containerd/v2/cmd/"+cmd+"@v"+version, "CGO_ENABLED=0"); err != nil {
				return err
			}
		}
		return nil
	})
}

// debian takes containerd from Debian's package.
func debian(dir string) error {
	for _, args := range [][]string{
		{"apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "containerd=" + Debian + "*"},
		{"sh", "-c", "dpkg-deb --fsys-tarfile containerd_" + Debian + "*.deb | tar -x --strip-components=3 ./usr/bin && rm *.deb"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("take Debian's containerd: %s: %w\n%s", cmd, err, out)
		}
	}
	return nil
}

// buildIn builds in a copy of a module whose go.mod has directives that
// `go install pkg@version` refuses.
func buildIn(dir, module string, pkgs ...string) error {
	return inCopy(module, func(src string) error {
		return goIn(src, append([]string{"build", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", dir + "/"}, pkgs...)...)
	})
}

// inCopy calls f with a copy of a module.
func inCopy(module string, f func(src string) error) error {
	var at struct{ Dir string }
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	if err == nil {
		err = json.Unmarshal(out, &at)
	}
	if err != nil {
		return fmt.Errorf("go mod download %s: %w\n%s", module, err, out)
	}
	src, err := os.MkdirTemp("", "peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(src)
	if err := os.CopyFS(filepath.Join(src, "m"), os.DirFS(at.Dir)); err != nil {
		return err
	}
	return f(filepath.Join(src, "m"))
}

func goIn(dir string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Program builds a small program of one file, given by its path in the repository, and
// returns the folder that has it.
func Program(file string) (string, error) {
	root, err := Repository()
	if err != nil {
		return "", err
	}
	source, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return "", err
	}
	name := strings.TrimSuffix(filepath.Base(file), ".go")
	return Once(fmt.Sprintf("%s-%x", name, sha256.Sum256(source))[:len(name)+13], func(dir string) error {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), file)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", file, err, out)
		}
		return nil
	})
}

// Runc builds runc, which needs libseccomp-dev and pkg-config.
func Runc() (string, error) {
	const version = "1.5.2"
	return Once("runc-"+version, func(dir string) error {
		return install(dir, "github.com/opencontainers/runc@v"+version, "CGO_ENABLED=1", "GOFLAGS=-tags=seccomp")
	})
}

// CNI builds the network plugins that pods need here and returns their folder.
func CNI() (string, error) {
	const version = "1.9.1"
	return Once("cni-"+version, func(dir string) error {
		for _, p := range []string{"main/loopback", "main/ptp", "ipam/host-local", "meta/portmap"} {
			if err := install(dir, "github.com/containernetworking/plugins/plugins/"+p+"@v"+version, "CGO_ENABLED=0"); err != nil {
				return err
			}
		}
		return nil
	})
}

// strip keeps what debuggers need out of a program.
const strip = "-s -w"

func install(dir, pkg string, env ...string) error { return installAs(dir, pkg, "", env...) }

// installAs sets a variable of the program's (package.name=value).
func installAs(dir, pkg, variable string, env ...string) error {
	flags := strip
	if variable != "" {
		flags += " -X " + variable
	}
	cmd := exec.Command("go", "install", "-trimpath", "-ldflags="+flags, pkg)
	cmd.Dir = os.TempDir() // outside of any module
	cmd.Env = append(append(os.Environ(), "GOBIN="+dir, "GOFLAGS="), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go install %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// LastShim is the commit of the shim's version before this one, whose records, ranges of
// ids and sockets a host may have when this one is installed.
const LastShim = "d68a1fbce9a3"

// ErrNoHistory: the repository was cloned without the commit that is asked for.
var ErrNoHistory = errors.New("the repository was cloned without its history")

// OldShim builds the shim of a commit of this repository and returns its folder. The error
// wraps [ErrNoHistory] where the commit is not there.
func OldShim(commit string) (string, error) {
	return Once("shim-"+commit, func(dir string) error {
		root, err := Repository()
		if err != nil {
			return err
		}
		src, err := os.MkdirTemp("", "shim-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(src)
		look := exec.Command("git", "cat-file", "-e", commit+"^{commit}")
		look.Dir = root
		if out, err := look.CombinedOutput(); err != nil {
			return fmt.Errorf("find commit %s: %w: %w\n%s", commit, ErrNoHistory, err, out)
		}
		cmd := exec.Command("sh", "-c", `git archive "$1" | tar -x -C "$2"`, "sh", commit, src)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("take commit %s out of the repository: %w\n%s", commit, err, out)
		}
		return goIn(src, "build", "-trimpath", "-ldflags="+strip, "-o", filepath.Join(dir, shimName), "./cmd/"+shimName)
	})
}

const shimName = "containerd-shim-sysbox-v1"

// shimDir names the folder of a shim that is there already.
const shimDir = "SYSBOX_SHIM_DIR"

// Shim builds the shim from the sources at hand and returns its folder, unless
// SYSBOX_SHIM_DIR has it.
func Shim() (string, error) {
	if dir := os.Getenv(shimDir); dir != "" {
		return dir, nil
	}
	root, err := Repository()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", "bin/"+shimName, "./cmd/"+shimName)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the shim: %w\n%s", err, out)
	}
	return filepath.Join(root, "bin"), nil
}

// PrepareShim builds the shim now, and once: from then on [Shim] returns that folder, in
// this process and in those that it starts.
func PrepareShim() error {
	dir, err := Shim()
	if err != nil {
		return err
	}
	return os.Setenv(shimDir, dir)
}
