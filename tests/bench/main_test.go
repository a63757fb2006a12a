package main

import (
	"flag"
	"os"
	"testing"

	"sysbox/tests/harness"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() || os.Getuid() != 0 {
		os.Exit(m.Run()) // the test says why it skips
	}
	os.Exit(harness.Private(func() error {
		_, _, err := defaultPath()
		return err
	}, m.Run))
}
