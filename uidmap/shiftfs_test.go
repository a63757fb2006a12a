package uidmap

import "testing"

func TestHasFilesystem(t *testing.T) {
	const list = "nodev\tsysfs\n\text4\nnodev\tshiftfs\n"
	for fstype, want := range map[string]bool{"shiftfs": true, "ext4": true, "sysfs": true, "shift": false, "nodev": false, "": false} {
		if hasFilesystem(list, fstype) != want {
			t.Errorf("%q: not %v", fstype, want)
		}
	}
	if hasFilesystem("", "") {
		t.Error("a list of nothing has something")
	}
}
