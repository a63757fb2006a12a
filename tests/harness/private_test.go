package harness

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv("HARNESS_TEST_CODE") == "" {
		os.Exit(m.Run())
	}
	os.Exit(Private(nil, func() int {
		_, err := os.Stat("/run/containerd/s")
		entries, _ := os.ReadDir("/proc/2")
		if os.Getpid() < 10 && len(entries) > 0 && os.IsNotExist(err) && os.Getenv("HARNESS_TEST_CODE") == "42" {
			return 42
		}
		return 0
	}))
}

// TestPrivate: the program runs as one of the first processes, where no shim's
// socket is to be seen, and its exit code comes out.
func TestPrivate(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes namespaces, which takes root")
	}
	for code, want := range map[string]int{"42": 42, "0": 0} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		// Any folder: there is nothing to run.
		cmd.Env = append(os.Environ(), "SYSBOX_SHIM_DIR="+t.TempDir(), "HARNESS_TEST_CODE="+code)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want || strings.TrimSpace(string(out)) != "" {
			t.Errorf("exit code %d, want %d: %s", got, want, out)
		}
	}
}
