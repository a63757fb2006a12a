// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sysbox/tests/pace"
	"sysbox/tests/private"
)

const again = "SYSBOX_TEST_LEAK"

// Main runs a package's tests in namespaces, cgroups and folders of their own (package
// private), and fails if they leave something that this process would have to end or
// remove: open files, children, goroutines, mounts and files in the folder for temporary
// ones, and cgroups with mark in their names ("": none is looked for). The last functions
// run after the tests. A test that runs the test binary again is looked at alone, not that.
func Main(m *testing.M, mark string, last ...func()) int {
	return Prepared(nil, m, mark, last...)
}

// Prepared is Main for tests that need something from the network, which prepare gets.
func Prepared(prepare func() error, m *testing.M, mark string, last ...func()) int {
	if os.Getenv(again) != "" {
		return m.Run()
	}
	return private.Run(prepare, func() int { return watch(m, mark, last) })
}

func watch(m *testing.M, mark string, last []func()) int {
	os.Setenv(again, "1")
	dir, temporary := private.Dir(), error(nil)
	if dir == "" {
		dir, temporary = os.MkdirTemp("", "t")
	}
	if temporary != nil {
		fmt.Fprintln(os.Stderr, temporary)
		return 1
	}
	if err := os.Chmod(dir, 0o755); err != nil { // some tests run a part as another user
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("TMPDIR", dir)
	before, err := own(dir, mark)
	code := m.Run()
	for _, f := range last {
		f()
	}
	var left []string
	for deadline := time.Now().Add(5 * time.Second * pace.Patience()); err == nil; time.Sleep(20 * time.Millisecond) {
		var now []string
		if now, err = own(dir, mark); err != nil {
			break
		}
		left = slices.DeleteFunc(now, func(s string) bool { return slices.Contains(before, s) })
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		left = append(left, err.Error())
	}
	for _, s := range left {
		fmt.Fprintln(os.Stderr, "the tests leave", s)
	}
	if len(left) > 0 {
		return max(code, 1)
	}
	if private.Dir() == "" {
		if err := os.Remove(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return max(code, 1)
		}
	}
	return code
}

func own(dir, mark string) ([]string, error) {
	var out []string
	files, err := descriptors(Options{Open: []int{os.Getpid()}})
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		// What Go's runtime opens when it is first needed, and the look itself.
		if !strings.HasPrefix(f, "anon_inode:[eventpoll]") && !strings.HasPrefix(f, "anon_inode:[eventfd]") &&
			!strings.HasPrefix(f, fmt.Sprintf("/proc/%d/fd ", os.Getpid())) {
			out = append(out, "open: "+f)
		}
	}
	children, err := children()
	if err != nil {
		return nil, err
	}
	out = append(out, children...)
	out = append(out, goroutines()...)
	points, err := mounts(Options{})
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		if strings.HasPrefix(p, dir+"/") {
			out = append(out, "a mount: "+p)
		}
	}
	if mark != "" {
		groups, err := cgroups(Options{})
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			if strings.Contains(g, mark) {
				out = append(out, "a cgroup: "+g)
			}
		}
	}
	temporary, err := names(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range temporary {
		if !strings.HasPrefix(filepath.Base(f), "go-build") { // the tests' own compiler's
			out = append(out, "a file: "+f)
		}
	}
	return out, nil
}

// children are the processes of which this one is the parent.
func children() ([]string, error) {
	list, err := pids()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, pid := range list {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := bytes.Cut(b, []byte(") "))
		if f := bytes.Fields(rest); len(f) > 1 && string(f[1]) == strconv.Itoa(os.Getpid()) {
			out = append(out, fmt.Sprintf("a child: %.100s", b))
		}
	}
	return out, nil
}

// goroutines are all but the one that runs the tests and those of Go's own packages.
func goroutines() []string {
	buf := make([]byte, 4<<20)
	var out []string
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if !strings.Contains(g, "testing.(*M)") && !strings.Contains(g, "leak.watch(") && !strings.Contains(g, "os/signal.") {
			out = append(out, "a goroutine: "+g)
		}
	}
	return out
}
