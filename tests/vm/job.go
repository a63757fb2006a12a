// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sysbox/tests/peers"
)

// machine is one run of programs, one after the other.
type machine struct {
	disk   string   // the folder that images.Machine made
	lsm    string   // the security module that the disk is for
	memory int      // MiB
	shares []string // the host's folders that the machine sees at the same paths
	// silence is how long a program may say nothing; 0: as long as it likes.
	silence time.Duration
}

// program is one of them.
type program struct {
	name string // for whom its output is
	dir  string // working folder
	args []string
}

// What the job says of its programs, each on a line: which one's output follows, and the
// last one's exit status, of those that failed.
const (
	begins = "\x01program "
	ended  = "\x01exit status "
)

// shimDir is where the machine has the shim.
const shimDir = "/var/shim"

// write makes the job: a script that mounts the shares and runs the programs.
func (m *machine) write(job string, programs []program) error {
	repository, err := peers.Repository()
	if err != nil {
		return err
	}
	cache, err := peers.Cache()
	if err != nil {
		return err
	}
	if cache, err = filepath.EvalSymlinks(cache); err != nil {
		return err
	}
	shim, err := peers.Shim()
	if err != nil {
		return err
	}
	dirs := []string{repository, cache, shim}
	for i, p := range programs {
		file, err := exec.LookPath(p.args[0])
		if err == nil {
			file, err = filepath.Abs(file)
		}
		if err != nil {
			return err
		}
		if programs[i].dir, err = filepath.Abs(p.dir); err != nil {
			return err
		}
		programs[i].args = append([]string{file}, p.args[1:]...)
		dirs = append(dirs, filepath.Dir(file), programs[i].dir)
	}
	for _, dir := range dirs {
		if system(dir) { // the machine has its own
			continue
		}
		if !slices.ContainsFunc(m.shares, func(s string) bool { return dir == s || strings.HasPrefix(dir, s+"/") }) {
			m.shares = append(m.shares, dir)
		}
	}
	s := &strings.Builder{}
	fmt.Fprintf(s, "stty -F /dev/ttyS1 raw -echo\nexec </dev/null >/dev/ttyS1 2>&1\n")
	for i, dir := range m.shares {
		fmt.Fprintf(s, "mkdir -p %s\nmount -t 9p -o trans=virtio,ro,cache=loose,msize=512000 share%d %s\n", quote(dir), i, quote(dir))
	}
	fmt.Fprintf(s, "ip link set lo up\nexport HOME=/root TMPDIR=/var/tmp PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")
	fmt.Fprintf(s, "export TEST_MACHINE=1 SYSBOX_TEST_REPOSITORY=%s SYSBOX_TEST_CACHE=%s SYSBOX_SHIM_DIR=%s\n", quote(repository), quote(cache), shimDir)
	// A build on the host would change the file under those who run it.
	fmt.Fprintf(s, "cp -a %s %s\n", quote(shim), shimDir)
	for _, e := range os.Environ() {
		if k, v, _ := strings.Cut(e, "="); strings.HasPrefix(k, "TEST_") {
			fmt.Fprintf(s, "export %s=%s\n", k, quote(v))
		}
	}
	fmt.Fprintf(s, "while read -r _; do kill -QUIT $(cat /run/program); done </dev/ttyS1 &\n")
	fmt.Fprintf(s, "echo\nfailed=0\n") // ends the line that the firmware began
	for _, p := range programs {
		fmt.Fprintf(s, "echo '%s'%s\ncd %s\nsh -c 'echo $$ >/run/program; exec \"$@\"' sh ", begins, quote(p.name), quote(p.dir))
		for _, a := range p.args {
			fmt.Fprintf(s, "%s ", quote(a))
		}
		fmt.Fprintf(s, "\nstatus=$?\n[ $status = 0 ] || failed=$status\n")
	}
	fmt.Fprintf(s, "echo '%s'$failed\n", ended)
	return os.WriteFile(filepath.Join(job, "run"), []byte(s.String()), 0o600)
}

// system tells whether a folder is one of those that packages fill.
func system(dir string) bool {
	return dir == "/" || slices.ContainsFunc([]string{"/usr", "/bin", "/sbin", "/lib", "/etc"}, func(s string) bool { return dir == s || strings.HasPrefix(dir, s+"/") })
}

// quote is for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
