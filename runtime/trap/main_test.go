package trap_test

import (
	"fmt"
	"os"
	"testing"

	"sysbox/runtime/trap"
	"sysbox/tests/testcontainer"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(trap.CallersEnv); text != "" {
		if err := trap.Callers(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(testcontainer.Main(m))
}
