package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sysbox/tests/peers"
)

// machine is one run of one program.
type machine struct {
	disk   string // the folder that images.Machine made
	cwd    string
	memory int      // MiB
	shares []string // the host's folders that the machine sees at the same paths
}

// ended begins the last line that a job writes; the program's exit status follows.
const ended = "\x01exit status "

// write makes the job: a script that mounts the shares and runs the program.
func (m *machine) write(job string, args []string) error {
	program, err := exec.LookPath(args[0])
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return err
	}
	cwd, err := filepath.Abs(m.cwd)
	if err != nil {
		return err
	}
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
	for _, dir := range []string{repository, cache, shim, filepath.Dir(program), cwd} {
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
	fmt.Fprintf(s, "export SYSBOX_TEST_MACHINE=1 SYSBOX_TEST_REPOSITORY=%s SYSBOX_TEST_CACHE=%s SYSBOX_SHIM_DIR=%s\n", quote(repository), quote(cache), quote(shim))
	for _, e := range os.Environ() {
		if k, v, _ := strings.Cut(e, "="); strings.HasPrefix(k, "TEST_") {
			fmt.Fprintf(s, "export %s=%s\n", k, quote(v))
		}
	}
	fmt.Fprintf(s, "cd %s\n%s", quote(cwd), quote(program))
	for _, a := range args[1:] {
		fmt.Fprintf(s, " %s", quote(a))
	}
	fmt.Fprintf(s, "\necho '%s'$?\n", ended)
	return os.WriteFile(filepath.Join(job, "run"), []byte(s.String()), 0o600)
}

// system tells whether a folder is one of those that packages fill.
func system(dir string) bool {
	return slices.ContainsFunc([]string{"/usr", "/bin", "/sbin", "/lib", "/etc"}, func(s string) bool { return dir == s || strings.HasPrefix(dir, s+"/") })
}

// quote is for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
