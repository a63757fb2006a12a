// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"sysbox/tests/harness"
	"sysbox/tests/peers"
	"sysbox/tests/private"
)

// host is where the registry listens, in a network namespace of the tests' own. One
// test's answer depends on there being no port in the name.
const host = "127.0.0.1"

// only names the environment variable with a pattern of the tests to be run.
const only = "TEST_UPSTREAM"

var stock = newRegistry()

// stocked fills the registry.
var stocked = sync.OnceValues(func() (digest.Digest, error) { return images(stock) })

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, func() error {
		if _, err := peers.Containerd(peers.Newest); err != nil {
			return err
		}
		if _, err := peers.Runc(); err != nil {
			return err
		}
		if _, err := peers.Containerd(peers.OldStart); err != nil {
			return err
		}
		if _, err := peers.CNI(); err != nil {
			return err
		}
		for _, s := range []peers.Suite{peers.Client, peers.CRI} {
			if _, err := build(s); err != nil {
				return err
			}
		}
		return nil
	}, func() int {
		if err := ownLib(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}))
}

// ownLib puts a folder of this run's over /var/lib: containerd's client suite has its
// containerd in /var/lib/containerd-test, always, and removes that folder in the end. It
// is on the disk, as layers are large.
func ownLib() error {
	if private.Dir() == "" {
		return nil
	}
	lib := filepath.Join(private.Dir(), "lib")
	for _, dir := range []string{"cni", "sysbox"} {
		if err := os.MkdirAll(filepath.Join(lib, dir), 0o755); err != nil {
			return err
		}
	}
	if err := syscall.Mount(lib, "/var/lib", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on /var/lib: %w", lib, err)
	}
	return nil
}

func build(s peers.Suite) (string, error) {
	d, err := stocked()
	if err != nil {
		return "", err
	}
	return s.Build(host, d.String())
}

// serve brings the loopback device up and has the registry served there.
var serve = sync.OnceValue(func() error {
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link set lo up: %w\n%s", err, out)
	}
	l, err := net.Listen("tcp", host+":80")
	if err != nil {
		return err
	}
	go http.Serve(l, stock)
	return nil
})

// prepare builds a suite, and writes a configuration of the shim's in dir. It returns
// what the suite and its containerd have in their environment.
func prepare(t *testing.T, s peers.Suite, dir string) (folder string, env []string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	if testing.Short() {
		t.Skip("runs for minutes, which -short leaves out")
	}
	folder, err := build(s)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := peers.Containerd(s.Version)
	if err != nil {
		t.Fatal(err)
	}
	shim, err := peers.Shim()
	if err != nil {
		t.Fatal(err)
	}
	runc, err := peers.Runc() // which some tests name
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "sysbox.toml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf("state_dir = %q\ndata_dir = %q\nids.allow_host_root = true\n", dir+"/run", dir+"/lib")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := serve(); err != nil {
		t.Fatal(err)
	}
	return folder, append(os.Environ(), "PATH="+shim+":"+bin+":"+runc+":"+os.Getenv("PATH"), "SYSBOX_CONFIG_FILE="+config)
}

// TestClient runs the suite of the client library, which starts a containerd of its own.
func TestClient(t *testing.T) {
	folder, env := prepare(t, peers.Client, t.TempDir())
	suite{
		name: "client", version: peers.Newest, folder: folder, expectations: ofClient,
		args: []string{"-test.root", "-no-criu", "-test.timeout=15m"},
		env:  append(env, "TEST_RUNTIME="+harness.Runtime),
	}.run(t)
}
