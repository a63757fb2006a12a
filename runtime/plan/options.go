package plan

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/uidmap"
)

// attrOption is a mount option that is a bit of the mount itself, not of the
// file system: what mount_setattr(2) sets and clears.
type attrOption struct{ set, clear uint64 }

// attrOptions are the options of runtime-spec 1.3 (config.md, "Linux mount
// options") that act on one mount; with an "r" before the name they act on the
// whole tree. Choosing an atime mode means clearing the old one first, else
// the kernel answers EINVAL (mount_setattr(2)).
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

// propagationOptions are mount(2)'s propagation types by their option.
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

// superblockOptions belong to the file system, and fsconfig(2) knows them by
// these very names. A bind shares its file system with the host and so cannot
// have them changed; the opposites are what it has anyway.
var superblockOptions = map[string]bool{
	"sync": true, "async": false,
	"dirsync": true,
	"mand":    true, "nomand": false,
	"lazytime": true, "nolazytime": false,
}

// emptyOptions ask for what happens anyway, or speak to programs other than
// the kernel.
var emptyOptions = map[string]bool{
	"defaults": true,
	"loud":     true, "silent": true, // what the kernel logs about the mount
	"noiversion": true,
}

// refusedOptions cannot be honoured.
var refusedOptions = map[string]struct{ why, wayOut string }{
	"remount":  {"a spec describes new mounts, not changes to old ones", "give the option on the mount itself"},
	"iversion": {"Linux has no such option for a new mount any more", "remove it"},
	"move":     {"moving a mount of the host's into a container is not supported", "use rbind"},
}

// options are a mount's options, sorted out.
type options struct {
	set, clear, recSet, recClear uint64
	propagation                  uintptr
	shared                       string // the word for it, if it is shared
	bind, recursive              bool
	idmap                        IDMapMode // "explicit" modes also for a bare "idmap"
	uid, gid                     uidmap.Map
	copyUp                       bool
	links                        Links
	data                         []string
	superblock                   []string // of data, those no bind can have
}

// parseOptions sorts out the options of the mount called field. The last of
// contradicting options wins, as with mount(8).
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
			return o, refuse(field, word, r.why, r.wayOut)
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

// parseIDMapOption reads crun's form of a mapping in the option itself:
// uids=CONTAINER-HOST-SIZE#…;gids=…, the file's id first.
func parseIDMapOption(field, word, value string) (uid, gid uidmap.Map, err error) {
	bad := func(why string) (uidmap.Map, uidmap.Map, error) {
		return nil, nil, refuse(field, word, why, "write idmap=uids=0-100000-65536;gids=0-100000-65536, or use uidMappings and gidMappings of the mount")
	}
	for part := range strings.SplitSeq(value, ";") {
		kind, list, _ := strings.Cut(part, "=")
		var m uidmap.Map
		for triple := range strings.SplitSeq(list, "#") {
			if strings.HasPrefix(triple, "@") {
				return bad("mappings relative to the container's own (@) are not supported")
			}
			n := strings.Split(triple, "-")
			if len(n) != 3 {
				return bad("each mapping has three numbers")
			}
			var v [3]uint32
			for i, s := range n {
				x, err := strconv.ParseUint(s, 10, 32)
				if err != nil {
					return bad("each mapping has three numbers below 2^32")
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
			return bad("it names something else than uids and gids, or one of them twice")
		}
	}
	if uid == nil || gid == nil {
		return bad("it needs both uids and gids")
	}
	return uid, gid, nil
}

// ContextOption tells whether a mount option is one of SELinux's, and returns it without
// the quotes that mount(2) wants around a label with commas: fsconfig(2) wants none.
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
