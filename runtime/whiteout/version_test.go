// SPDX-License-Identifier: Apache-2.0

package whiteout

import (
	"os"
	"strings"
	"testing"
)

// TestListOfLaterVersion: a list whose form is unknown is left as it is, and so is the folder:
// with it the marks would go that the list names.
func TestListOfLaterVersion(t *testing.T) {
	for _, text := range []string{title + "2\x00wa/new\x00", title + "12\x00{\"whiteouts\": []}"} {
		dir := folder(t)
		if err := os.WriteFile(dir.Name()+"/"+list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := shown(t, dir)
		for what, err := range map[string]error{"Restore": Restore(t.Context(), dir, ptr(Max)), "Park": Stash(t.Context(), dir, ptr(Max))} {
			if err == nil || !strings.Contains(err.Error(), list) || !strings.Contains(err.Error(), "use the version that wrote it") {
				t.Errorf("%q: %s: %v", text, what, err)
			}
		}
		if got := shown(t, dir); got != before {
			t.Errorf("%q: %s\nwant %s", text, got, before)
		}
		if got, err := os.ReadFile(dir.Name() + "/" + list); err != nil || string(got) != text {
			t.Errorf("the list is %q, %v; want %q", got, err, text)
		}
	}
}

// TestListOfNoVersion: what only looks like the heading of a later list is no list, and goes.
func TestListOfNoVersion(t *testing.T) {
	for _, first := range []string{"", title, title + "0", title + "-2", title + "02", title + "2 ", title + "two", "a" + title + "2"} {
		dir := folder(t)
		before := shown(t, dir)
		if err := os.WriteFile(dir.Name()+"/"+list, []byte(first+"\x00wa/new\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Restore(t.Context(), dir, ptr(Max)); err != nil {
			t.Errorf("%q: %v", first, err)
		}
		if got := shown(t, dir); got != before {
			t.Errorf("%q: %s\nwant %s", first, got, before)
		}
	}
}

// TestListForFirstVersion: the first versions read a list with this very heading, and remove
// any other.
func TestListForFirstVersion(t *testing.T) {
	dir := folder(t)
	if err := Stash(t.Context(), dir, ptr(Max)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dir.Name() + "/" + list)
	if err != nil || !strings.HasPrefix(string(got), "whiteouts and opaque folders of inner overlays, 1\x00") {
		t.Errorf("%q, %v", got, err)
	}
}
