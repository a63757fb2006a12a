// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/i386"
)

type spec = specs.Spec

// slashes is a setting's name as a path below /proc/sys.
func slashes(name string) string { return strings.ReplaceAll(name, ".", "/") }

// machine is what uname(2) says of it, and machine32 what it says to the personality of
// 32 bits (arch/*/include/asm/compat.h, COMPAT_UTS_MACHINE).
func machine() string {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
}

func machine32() string {
	return map[string]string{"amd64": "i686", "arm64": "armv8l"}[runtime.GOARCH]
}

// runs32 tells whether the kernel runs 32-bit programs.
func runs32() bool {
	runs, err := i386.Runs()
	if err != nil {
		panic(err)
	}
	return runs
}

// kernel tells whether Linux is that new.
func kernel(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	release, _, _ := bytes.Cut(u.Release[:], []byte{0})
	var a, b int
	fmt.Sscanf(string(release), "%d.%d", &a, &b)
	return a > major || a == major && b >= minor
}

// disk is a disk of the host, whose device number limits need.
func disk() (specs.LinuxBlockIODevice, string) {
	names, _ := filepath.Glob("/sys/block/[sv]d*/dev")
	if len(names) == 0 {
		return specs.LinuxBlockIODevice{}, "no disk"
	}
	b, _ := os.ReadFile(names[0])
	name := strings.TrimSpace(string(b))
	var d specs.LinuxBlockIODevice
	fmt.Sscanf(name, "%d:%d", &d.Major, &d.Minor)
	return d, name
}

// dockerProfile is Docker's own: what it does not name is denied.
func dockerProfile() *specs.LinuxSeccomp {
	p, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		panic(err) // the module's own data
	}
	b, err := json.Marshal(p)
	out := &specs.LinuxSeccomp{}
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		panic(err)
	}
	return out
}

func noMounts(s *spec) { s.Mounts = nil }

// ownProgram stands for the test's own binary on the host.
const ownProgram = "/proc/self/exe"
