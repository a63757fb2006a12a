// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/uidmap"
)

// TestOptions: what each option of runtime-spec 1.3 comes to.
func TestOptions(t *testing.T) {
	const atime = unix.MOUNT_ATTR__ATIME
	for _, c := range []struct {
		options []string
		want    options
	}{
		{nil, options{}},
		{[]string{"", "defaults", "silent", "loud", "x-mount.mkdir"}, options{}},
		{[]string{"ro", "nosuid", "nodev", "noexec", "nosymfollow", "nodiratime"}, options{set: unix.MOUNT_ATTR_RDONLY | hardened | unix.MOUNT_ATTR_NOSYMFOLLOW | unix.MOUNT_ATTR_NODIRATIME}},
		{[]string{"rw", "suid", "dev", "exec", "symfollow", "diratime"}, options{clear: unix.MOUNT_ATTR_RDONLY | hardened | unix.MOUNT_ATTR_NOSYMFOLLOW | unix.MOUNT_ATTR_NODIRATIME}},
		{[]string{"ro", "rw"}, options{clear: unix.MOUNT_ATTR_RDONLY}},
		{[]string{"rw", "ro"}, options{set: unix.MOUNT_ATTR_RDONLY}},
		{[]string{"noatime"}, options{set: unix.MOUNT_ATTR_NOATIME, clear: atime}},
		{[]string{"strictatime"}, options{set: unix.MOUNT_ATTR_STRICTATIME, clear: atime}},
		{[]string{"noatime", "relatime"}, options{clear: atime}},
		{[]string{"noatime", "atime", "nodiratime"}, options{set: unix.MOUNT_ATTR_NODIRATIME, clear: atime}},
		{[]string{"norelatime"}, options{set: unix.MOUNT_ATTR_STRICTATIME, clear: atime}},
		{[]string{"nostrictatime"}, options{clear: atime}},
		{[]string{"rro", "rnosuid", "rnodev", "rnoexec", "rnosymfollow", "rnodiratime"}, options{recSet: unix.MOUNT_ATTR_RDONLY | hardened | unix.MOUNT_ATTR_NOSYMFOLLOW | unix.MOUNT_ATTR_NODIRATIME}},
		{[]string{"rrw", "rsuid", "rdev", "rexec", "rsymfollow", "rdiratime"}, options{recClear: unix.MOUNT_ATTR_RDONLY | hardened | unix.MOUNT_ATTR_NOSYMFOLLOW | unix.MOUNT_ATTR_NODIRATIME}},
		{[]string{"rnoatime"}, options{recSet: unix.MOUNT_ATTR_NOATIME, recClear: atime}},
		{[]string{"rstrictatime"}, options{recSet: unix.MOUNT_ATTR_STRICTATIME, recClear: atime}},
		{[]string{"rnoatime", "rrelatime"}, options{recClear: atime}},
		{[]string{"rnoatime", "ratime"}, options{recClear: atime}},
		{[]string{"rnorelatime"}, options{recSet: unix.MOUNT_ATTR_STRICTATIME, recClear: atime}},
		{[]string{"rnostrictatime"}, options{recClear: atime}},
		{[]string{"bind"}, options{bind: true}},
		{[]string{"rbind", "rslave"}, options{bind: true, recursive: true, propagation: unix.MS_SLAVE | unix.MS_REC}},
		{[]string{"private", "rprivate"}, options{propagation: unix.MS_PRIVATE | unix.MS_REC}},
		{[]string{"slave"}, options{propagation: unix.MS_SLAVE}},
		{[]string{"shared"}, options{propagation: unix.MS_SHARED, shared: "shared"}},
		{[]string{"rshared"}, options{propagation: unix.MS_SHARED | unix.MS_REC, shared: "rshared"}},
		{[]string{"unbindable"}, options{propagation: unix.MS_UNBINDABLE}},
		{[]string{"runbindable"}, options{propagation: unix.MS_UNBINDABLE | unix.MS_REC}},
		{[]string{"sync", "dirsync", "mand", "lazytime"}, options{superblock: []string{"sync", "dirsync", "mand", "lazytime"}}},
		{[]string{"sync", "lazytime", "async", "nolazytime", "nomand"}, options{superblock: []string{}}},
		{[]string{"tmpcopyup", "size=1m", "mode=755", "ronly"}, options{copyUp: true, data: []string{"size=1m", "mode=755", "ronly"}}},
		{[]string{"idmap"}, options{idmap: IDMapExplicit}},
		{[]string{"ridmap"}, options{idmap: IDMapExplicitRecursive}},
		{[]string{"idmap=uids=0-1-2#9-8-7;gids=3-4-5"}, options{
			idmap: IDMapExplicit,
			uid:   uidmap.Map{{ContainerID: 0, HostID: 1, Size: 2}, {ContainerID: 9, HostID: 8, Size: 7}},
			gid:   uidmap.Map{{ContainerID: 3, HostID: 4, Size: 5}},
		}},
	} {
		got, err := parseOptions("mounts[0]", c.options)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n got %+v (%v)\nwant %+v", c.options, got, err, c.want)
		}
	}
}
