package trap

import (
	"fmt"
	"os"
	"testing"

	"sysbox/tests/leak"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(callersEnv); text != "" {
		if err := callers(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(leak.Main(m, ""))
}
