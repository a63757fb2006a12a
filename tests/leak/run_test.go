// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sysbox/tests/pace"
)

// role is what a run of its own does, that TestAnotherRun starts.
const role = "TEST_LEAK_ROLE"

// TestAnotherRun: of what another run leaves, none is found, as long as it lasts.
func TestAnotherRun(t *testing.T) {
	in := bufio.NewReader(os.Stdin)
	wait := func() { // for a line
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	switch os.Getenv(role) {
	case "look":
		o := Options{Match: planted}
		before, err := Take(o)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("looked")
		wait()
		found, err := Compare(before, o)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("found %q\n", found)
		return
	case "plant":
		wait()
		plant(t, t.TempDir())
		fmt.Println("planted")
		wait()
		return
	}
	switch {
	case os.Getuid() != 0:
		t.Skip("plants mounts and namespaces, which takes root")
	case pace.Machine():
		t.Skip("a machine of its own has one run at a time")
	}
	looks, plants := start(t, "look"), start(t, "plant")
	looks.says(t, "looked")
	plants.do(t)
	plants.says(t, "planted")
	looks.do(t)
	looks.says(t, "found []")
	plants.do(t)
	plants.end(t)
	looks.end(t)
}

// another is a run beside this one.
type another struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func start(t *testing.T, as string) *another {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestAnotherRun$")
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "SYSBOX_TEST_") { // by which it would be a part of this run
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, role+"="+as)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &another{cmd, in, bufio.NewReader(out)}
}

func (a *another) do(t *testing.T) {
	t.Helper()
	if _, err := fmt.Fprintln(a.in); err != nil {
		t.Fatal(err)
	}
}

// says waits for a line of output.
func (a *another) says(t *testing.T, want string) {
	t.Helper()
	if line, err := a.out.ReadString('\n'); err != nil || line != want+"\n" {
		rest, _ := io.ReadAll(a.out)
		t.Fatalf("the other run says %q, want %q: %v\n%s", line, want, err, rest)
	}
}

func (a *another) end(t *testing.T) {
	t.Helper()
	rest, _ := io.ReadAll(a.out)
	if err := a.cmd.Wait(); err != nil {
		t.Errorf("the other run: %v\n%s", err, rest)
	}
}
