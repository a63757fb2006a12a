// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"sysbox/shim"
)

// TestReclaimAction: the command says what it removed, and then that nothing is left.
func TestReclaimAction(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("removes what containers left, which takes root")
	}
	dir := t.TempDir()
	left := dir + "/data/storage/ns/c1"
	if err := os.MkdirAll(left+"/var-lib-docker", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/config", fmt.Appendf(nil, "state_dir = %q\ndata_dir = %q\n", dir+"/state", dir+"/data"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SYSBOX_CONFIG_FILE", dir+"/config")
	for _, want := range []string{"removed " + left + "\n", "nothing to clean up\n"} {
		var out, errs bytes.Buffer
		if code := shim.Main([]string{"shim", "reclaim"}, strings.NewReader(""), &out, &errs); code != 0 || out.String() != want || errs.Len() > 0 {
			t.Errorf("exit code %d, %q, %q; want %q", code, out.String(), errs.String(), want)
		}
	}
}
