package harness_test

import (
	"flag"
	"os"
	"testing"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() || os.Getuid() != 0 {
		os.Exit(m.Run()) // each test says why it skips
	}
	os.Exit(harness.Private(func() error {
		if _, err := peers.Containerd(peers.Newest); err != nil {
			return err
		}
		_, err := images.Busybox()
		return err
	}, m.Run))
}
