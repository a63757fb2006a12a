package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime/fill"
	"sysbox/tests/leak"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// insideEnv names the routine that this test's binary runs in a container.
const insideEnv = "TEST_INSIDE"

// routines run in a container, as its root. An error is printed and ends with status 1.
var routines = map[string]func() error{}

func TestMain(m *testing.M) {
	if status, mine := fill.Main(os.Args); mine {
		os.Exit(status)
	}
	name := os.Getenv(insideEnv)
	if name == "" {
		os.Exit(leak.Main(m, fmt.Sprintf("sysbox-test-%d/", os.Getpid())))
	}
	routine := routines[name]
	if routine == nil {
		fmt.Printf("no routine %q\n", name)
		os.Exit(2)
	}
	if err := routine(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// insideBundle is a bundle whose init is a routine of this binary.
func insideBundle(t testing.TB, routine string, change func(*specs.Spec)) string {
	t.Helper()
	bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
		s.Process.Env = append(s.Process.Env, insideEnv+"="+routine, pace.Variable+"="+os.Getenv(pace.Variable))
		if change != nil {
			change(s)
		}
	}, "/bin/inside")
	root := filepath.Join(bundle, "rootfs")
	testcontainer.Copy(t, "/proc/self/exe", filepath.Join(root, "bin/inside"))
	testcontainer.Libraries(t, root)
	return bundle
}

// inside runs a routine in a container and returns what it printed.
func inside(t testing.TB, routine string, change func(*specs.Spec)) (string, int) {
	t.Helper()
	w, text := pipe(t)
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: insideBundle(t, routine, change), Stdio: Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exit := wait(t, c.Init())
	return text(), exit.Status
}

// execScript runs a script in a container and returns what it printed.
func execScript(t testing.TB, c *Container, script string) string {
	t.Helper()
	w, text := pipe(t)
	p, err := c.Exec(t.Context(), ExecRequest{
		Process: &specs.Process{Args: []string{"sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}},
		Stdio:   Stdio{Stdout: w, Stderr: w},
	})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, p)
	return text()
}
