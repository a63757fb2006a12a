// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/uidmap"
)

// attrOption is a mount option that applies to the mount itself, not to the
// file system: mount_setattr(2) sets and clears it.
type attrOption struct{ set, clear uint64 }

// attrOptions are the options of runtime-spec 1.3 (config.md, "Linux mount
// options") that apply to one mount; with a leading "r" they apply to the whole
// tree. Setting an atime mode requires clearing the old one first, otherwise the
// kernel returns EINVAL (mount_setattr(2)).
var attrOptions = map[string]attrOption{
	"ro":            {set: unix.MOUNT_ATTR_RDONLY},
	"rw":            {clear: unix.MOUNT_ATTR_RDONLY},
	"nosuid":        {set: unix.MOUNT_ATTR_NOSUID},
	"suid":          {clear: unix.MOUNT_ATTR_NOSUID},
	"nodev":         {set: unix.MOUNT_ATTR_NODEV},
	"dev":           {clear: unix.MOUNT_ATTR_NODEV},
	"noexec":        {set: unix.MOUNT_ATTR_NOEXEC},
	"exec":          {clear: unix.MOUNT_ATTR_NOEXEC},
	"nosymfollow":   {set: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"symfollow":     {clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"nodiratime":    {set: unix.MOUNT_ATTR_NODIRATIME},
	"diratime":      {clear: unix.MOUNT_ATTR_NODIRATIME},
	"noatime":       {set: unix.MOUNT_ATTR_NOATIME, clear: unix.MOUNT_ATTR__ATIME},
	"strictatime":   {set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME},
	"relatime":      {set: unix.MOUNT_ATTR_RELATIME, clear: unix.MOUNT_ATTR__ATIME},
	"atime":         {set: unix.MOUNT_ATTR_RELATIME, clear: unix.MOUNT_ATTR__ATIME},
	"norelatime":    {set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME},
	"nostrictatime": {set: unix.MOUNT_ATTR_RELATIME, clear: unix.MOUNT_ATTR__ATIME},
}

// propagationOptions maps options to the propagation types of mount(2).
var propagationOptions = map[string]uintptr{
	"private":     unix.MS_PRIVATE,
	"rprivate":    unix.MS_PRIVATE | unix.MS_REC,
	"slave":       unix.MS_SLAVE,
	"rslave":      unix.MS_SLAVE | unix.MS_REC,
	"shared":      unix.MS_SHARED,
	"rshared":     unix.MS_SHARED | unix.MS_REC,
	"unbindable":  unix.MS_UNBINDABLE,
	"runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// superblockOptions belong to the file system; fsconfig(2) uses the same names.
// A bind shares its file system with the host and so cannot change them; it already
// has their opposites.
var superblockOptions = map[string]bool{
	"sync": true, "async": false,
	"dirsync": true,
	"mand":    true, "nomand": false,
	"lazytime": true, "nolazytime": false,
}

// emptyOptions ask for the default or are meant for programs other than the
// kernel.
var emptyOptions = map[string]bool{
	"defaults": true,
	"loud":     true, "silent": true, // what the kernel logs about the mount
	"noiversion": true,
}

// refusedOptions cannot be honoured.
var refusedOptions = map[string]struct{ reason, hint string }{
	"remount":  {"a spec describes new mounts, not changes of existing ones", "set the option on the mount itself"},
	"iversion": {"Linux no longer has this option for new mounts", "remove it"},
	"move":     {"moving a mount of the host into a container is not supported", "use rbind"},
}

// options are the parsed options of a mount.
type options struct {
	set, clear, recSet, recClear uint64
	propagation                  uintptr
	shared                       string // the option that makes the mount shared
	bind, recursive              bool
	idmap                        IDMapMode // "explicit" modes also for a bare "idmap"
	uid, gid                     uidmap.Map
	copyUp                       bool
	links                        Links
	data                         []string
	superblock                   []string // the part of data that a bind cannot have
}

// parseOptions parses the options of the mount called field. Of contradicting options
// the last one wins, as with mount(8).
func parseOptions(field string, list []string) (options, error) {
	var o options
	field += ".options"
	for _, word := range list {
		if err := noNUL(field, word); err != nil {
			return o, err
		}
		name, value, hasValue := strings.Cut(word, "=")
		if p, ok := propagationOptions[word]; ok {
			if o.propagation = p; p&unix.MS_SHARED != 0 {
				o.shared = word
			}
			continue
		}
		if a, ok := attrOptions[word]; ok {
			apply(a, &o.set, &o.clear)
			continue
		}
		if a, ok := attrOptions[strings.TrimPrefix(word, "r")]; ok && word[0] == 'r' {
			apply(a, &o.recSet, &o.recClear)
			continue
		}
		if r, ok := refusedOptions[name]; ok {
			return o, invalid(field, word, r.reason, r.hint)
		}
		if change, ok := superblockOptions[word]; ok {
			if change {
				o.superblock = append(o.superblock, word)
			} else {
				o.superblock = slices.DeleteFunc(o.superblock, func(s string) bool { return s == opposite(word) })
			}
			continue
		}
		switch {
		case word == "" || emptyOptions[word] || strings.HasPrefix(word, "x-") || strings.HasPrefix(word, "X-"):
		case word == "bind":
			o.bind = true
		case word == "rbind":
			o.bind, o.recursive = true, true
		case word == "copy-symlink":
			o.links.Copy = true
		case word == "src-nofollow":
			o.links.Source = true
		case word == "dest-nofollow":
			o.links.Destination = true
		case word == "tmpcopyup":
			o.copyUp = true
		case name == "idmap" || name == "ridmap":
			o.idmap = IDMapExplicit
			if name == "ridmap" {
				o.idmap = IDMapExplicitRecursive
			}
			if hasValue {
				var err error
				if o.uid, o.gid, err = parseIDMapOption(field, word, value); err != nil {
					return o, err
				}
			}
		default:
			o.data = append(o.data, word)
		}
	}
	return o, nil
}

func apply(a attrOption, set, clear *uint64) {
	*set = *set&^a.clear | a.set
	*clear = *clear&^(a.set&^unix.MOUNT_ATTR__ATIME) | a.clear
}

func opposite(word string) string {
	switch word {
	case "async":
		return "sync"
	default:
		return strings.TrimPrefix(word, "no")
	}
}

// parseIDMapOption reads the form of a mapping that crun puts into the option itself:
// uids=CONTAINER-HOST-SIZE#…;gids=…, with the id of the file first.
func parseIDMapOption(field, word, value string) (uid, gid uidmap.Map, err error) {
	bad := func(reason string) (uidmap.Map, uidmap.Map, error) {
		return nil, nil, invalid(field, word, reason, "write idmap=uids=0-100000-65536;gids=0-100000-65536, or use uidMappings and gidMappings of the mount")
	}
	for part := range strings.SplitSeq(value, ";") {
		kind, list, _ := strings.Cut(part, "=")
		var m uidmap.Map
		for triple := range strings.SplitSeq(list, "#") {
			if strings.HasPrefix(triple, "@") {
				return bad("mappings relative to those of the container (@) are not supported")
			}
			n := strings.Split(triple, "-")
			if len(n) != 3 {
				return bad("each mapping needs three numbers")
			}
			var v [3]uint32
			for i, s := range n {
				x, err := strconv.ParseUint(s, 10, 32)
				if err != nil {
					return bad("each mapping needs three numbers below 2^32")
				}
				v[i] = uint32(x)
			}
			m = append(m, uidmap.Mapping{ContainerID: v[0], HostID: v[1], Size: v[2]})
		}
		switch {
		case kind == "uids" && uid == nil:
			uid = m
		case kind == "gids" && gid == nil:
			gid = m
		default:
			return bad("it must name uids and gids once each")
		}
	}
	if uid == nil || gid == nil {
		return bad("it needs both uids and gids")
	}
	return uid, gid, nil
}

// ContextOption reports whether a mount option is one of SELinux, and returns it without
// the quotes that mount(2) needs around a label with commas; fsconfig(2) does not accept them.
func ContextOption(option string) (plain string, ok bool) {
	k, v, ok := strings.Cut(option, "=")
	if !ok {
		return option, false
	}
	switch k {
	case "context", "fscontext", "defcontext", "rootcontext":
		if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
			v = v[1 : len(v)-1]
		}
		return k + "=" + v, true
	}
	return option, false
}
