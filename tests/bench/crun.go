// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sysbox/tests/peers"
)

// crunSuite is the Debian release whose crun is measured: that of Debian 12
// refuses specs of version 1.3, which containerd 2.4 writes.
const crunSuite = "trixie"

// crunPackages are crun and the libraries that it is linked to, since its
// release's C library is newer than the host's may be.
var crunPackages = []string{"crun", "libc6", "libgcc-s1", "libcap2", "libseccomp2", "libsystemd0", "libyajl2"}

// crun unpacks crun beside its own libraries and returns its folder. Nothing
// is installed.
func crun() (string, error) {
	cache, err := peers.Cache()
	if err != nil {
		return "", err
	}
	const name = "crun-" + crunSuite
	final := filepath.Join(cache, name) // what peers.Once renames its folder to
	dir, err := peers.Once(name, func(dir string) error { return makeCrun(dir, final) })
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "bin"), nil
}

func makeCrun(dir, final string) error {
	site, err := debianSite()
	if err != nil {
		return err
	}
	for _, d := range []string{"apt/lists/partial", "apt/cache/archives/partial", "debs", "root", "bin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	sources := fmt.Sprintf("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n", site, crunSuite)
	if err := os.WriteFile(filepath.Join(dir, "apt/sources.list"), []byte(sources), 0o644); err != nil {
		return err
	}
	apt := func(args ...string) error {
		return command(filepath.Join(dir, "debs"), "apt-get", append([]string{
			"-qq", "-o", "APT::Sandbox::User=root",
			"-o", "Dir::Etc::sourcelist=" + filepath.Join(dir, "apt/sources.list"), "-o", "Dir::Etc::sourceparts=-",
			"-o", "Dir::State::lists=" + filepath.Join(dir, "apt/lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "apt/cache"),
		}, args...)...)
	}
	if err := apt("update"); err != nil {
		return err
	}
	if err := apt(append([]string{"download"}, crunPackages...)...); err != nil {
		return err
	}
	// The host's own, which has the host's libraries.
	if err := command(filepath.Join(dir, "debs"), "apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "patchelf"); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "debs/*.deb"))
	if err != nil {
		return err
	}
	for _, d := range debs {
		into := filepath.Join(dir, "root")
		if strings.HasPrefix(filepath.Base(d), "patchelf_") {
			into = filepath.Join(dir, "tool")
		}
		if err := command(dir, "dpkg", "-x", d, into); err != nil {
			return err
		}
	}
	loaders, err := filepath.Glob(filepath.Join(dir, "root/usr/lib/*-linux-gnu/ld-linux*.so.*"))
	if err != nil || len(loaders) != 1 {
		return errors.Join(err, fmt.Errorf("the packages of %s have %d dynamic loaders, want 1", crunSuite, len(loaders)))
	}
	loader := strings.Replace(loaders[0], dir, final, 1)
	if err := command(dir, filepath.Join(dir, "tool/usr/bin/patchelf"), "--set-interpreter", loader,
		"--force-rpath", "--set-rpath", filepath.Dir(loader), "--output", "bin/crun", "root/usr/bin/crun"); err != nil {
		return err
	}
	return errors.Join(os.Chmod(filepath.Join(dir, "bin/crun"), 0o755), os.RemoveAll(filepath.Join(dir, "apt")),
		os.RemoveAll(filepath.Join(dir, "debs")), os.RemoveAll(filepath.Join(dir, "tool")))
}

// debianSite is the mirror that this system's own sources use.
func debianSite() (string, error) {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Label: Debian").Output()
	site, _, _ := strings.Cut(string(out), "\n")
	if err != nil || site == "" {
		return "", errors.Join(errors.New("apt has no source of Debian's; add one, and run apt-get update"), err)
	}
	return site, nil
}

func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}
