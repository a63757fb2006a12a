// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// decoder shows one argument of a system call. args are all arguments; the others may say what
// this one means.
type decoder func(a Arg, args []Arg) string

// decoders has, by the name of a system call, the decoders of its arguments. Without one,
// listings show a number.
var decoders = map[string][]decoder{
	"capset":            {capHeader, capData},
	"close_range":       {plain, last, flags(closeFlags)},
	"dup3":              {plain, plain, flags(openFlags)},
	"faccessat":         {at, plain, flags(accessModes)},
	"fchmodat":          {at, plain, octal},
	"fchown":            {plain, id, id},
	"fchownat":          {at, plain, id, id, flags(atFlags)},
	"fsconfig":          {plain, names(fsconfigCommands)},
	"fsmount":           {plain, flags(fsmountFlags), flags(mountAttrs)},
	"fsopen":            {plain, flags(fsopenFlags)},
	"ioctl":             {plain, names(ioctls), ioctlArgument},
	"ioprio_set":        {names(ioprioWhich), plain, ioPriority},
	"keyctl":            {names(keyctlCommands), plain, keyPermissions},
	"mkdirat":           {at, plain, octal},
	"mknodat":           {at, plain, nodeMode, device},
	"mount":             {nullable, plain, nullable, flags(mountFlags), nullable},
	"mount_setattr":     {at, plain, flags(atFlags)},
	"move_mount":        {at, plain, at, plain, flags(moveMountFlags)},
	"open_tree":         {at, plain, flags(openTreeFlags)},
	"openat":            {at, plain, openMode, octal},
	"openat2":           {at, plain, openHow, plain},
	"prctl":             {names(prctlOptions), prctlArgument, prctlCapability},
	"prlimit64":         {plain, names(limitNames), limit, nullable},
	"sched_setaffinity": {plain, plain, cpus},
	"sched_setattr":     {plain, schedAttr},
	"seccomp":           {names(seccompModes), flags(filterFlags), filter},
	"set_mempolicy":     {memoryMode, nodes},
	"setgroups":         {plain, groups},
	"setns":             {plain, flags(cloneFlags)},
	"setresgid":         {id, id, id},
	"setresuid":         {id, id, id},
	"socket":            {names(socketFamilies), flags(socketTypes)},
	"umask":             {octal},
	"umount2":           {plain, flags([]flag{{"MNT_DETACH", unix.MNT_DETACH}, {"MNT_FORCE", unix.MNT_FORCE}})},
	"unshare":           {flags(cloneFlags)},
}

// decode shows the arguments of a call as strace does: flags by name, structures by field.
func decode(call string, args []Arg) []string {
	table := decoders[call]
	out := make([]string, len(args))
	for i, a := range args {
		switch {
		case a == nil:
			out[i] = "?"
		case i < len(table):
			out[i] = table[i](a, args)
		default:
			out[i] = a.String()
		}
	}
	// prctl(2) wants its unused arguments to be 0; listings leave them out.
	if call == "prctl" {
		for len(out) > 2 && args[len(out)-1] == Int(0) {
			out = out[:len(out)-1]
		}
	}
	return out
}

// numberOf returns the value of an argument if it is known before the program runs.
func numberOf(a Arg) (uint64, bool) {
	switch a := a.(type) {
	case Int:
		return uint64(a), true
	case Sym:
		return uint64(a.Value), true
	}
	return 0, false
}

// byNumber makes a decoder of a function that shows a number.
func byNumber(show func(uint64) string) decoder {
	return func(a Arg, _ []Arg) string {
		if s, ok := a.(Sym); ok {
			return s.Name
		}
		if v, ok := numberOf(a); ok {
			return show(v)
		}
		return a.String()
	}
}

// byWords makes a decoder of a function that shows a structure of at least n 64-bit words.
func byWords(n int, show func(w []uint64) string) decoder {
	return func(a Arg, _ []Arg) string {
		b, ok := a.(Bytes)
		if !ok || len(b) < 8*n {
			return a.String()
		}
		w := make([]uint64, 0, len(b)/8)
		for ; len(b) >= 8; b = b[8:] {
			w = append(w, binary.LittleEndian.Uint64(b))
		}
		return show(w)
	}
}

func flags(names []flag) decoder {
	return byNumber(func(v uint64) string { return bits(v, names) })
}

func names(names []flag) decoder {
	return byNumber(func(v uint64) string { return one(v, names) })
}

func plain(a Arg, _ []Arg) string { return a.String() }

var (
	octal = byNumber(func(v uint64) string {
		if v == 0 {
			return "0"
		}
		return fmt.Sprintf("0%o", v)
	})
	// id shows the id of a user or group; -1 leaves it unchanged.
	id = byNumber(func(v uint64) string { return strconv.Itoa(int(int32(v))) })
	// last shows the end of a range of descriptors.
	last = byNumber(func(v uint64) string {
		if uint32(v) == ^uint32(0) {
			return "~0"
		}
		return strconv.FormatUint(v, 10)
	})
	nullable = byNumber(func(v uint64) string {
		if v == 0 {
			return "NULL"
		}
		return fmt.Sprintf("%#x", v)
	})
	at = byNumber(func(v uint64) string {
		if int64(v) == unix.AT_FDCWD {
			return "AT_FDCWD"
		}
		return strconv.FormatUint(v, 10)
	})
	openMode = byNumber(showOpenFlags)
	nodeMode = byNumber(func(v uint64) string {
		types := []flag{{"S_IFCHR", unix.S_IFCHR}, {"S_IFBLK", unix.S_IFBLK}, {"S_IFIFO", unix.S_IFIFO}, {"S_IFREG", unix.S_IFREG}, {"S_IFSOCK", unix.S_IFSOCK}}
		return fmt.Sprintf("%s|0%o", one(v&unix.S_IFMT, types), v&^unix.S_IFMT)
	})
	device     = byNumber(func(v uint64) string { return fmt.Sprintf("makedev(%d, %d)", unix.Major(v), unix.Minor(v)) })
	ioPriority = byNumber(func(v uint64) string { return fmt.Sprintf("%s, level %d", one(v>>13, ioprioClass), v&0x1fff) })
	memoryMode = byNumber(func(v uint64) string {
		s := one(v&0x1fff, memoryModes)
		if v &^= 0x1fff; v != 0 {
			s += "|" + bits(v, memoryFlags)
		}
		return s
	})
)

// showOpenFlags also shows O_RDONLY, which is 0.
func showOpenFlags(v uint64) string {
	s := bits(v, openFlags)
	switch {
	case v&(unix.O_PATH|unix.O_RDWR|unix.O_WRONLY) != 0:
	case v == 0:
		s = "O_RDONLY"
	default:
		s = "O_RDONLY|" + s
	}
	return s
}

// openHow is struct open_how, openat2(2).
var openHow = byWords(3, func(w []uint64) string {
	out := []string{"flags=" + showOpenFlags(w[0])}
	if w[1] != 0 {
		out = append(out, fmt.Sprintf("mode=0%o", w[1]))
	}
	if w[2] != 0 {
		out = append(out, "resolve="+bits(w[2], resolveFlags))
	}
	return "{" + strings.Join(out, ", ") + "}"
})

// limit is struct rlimit64, prlimit(2).
var limit = byWords(2, func(w []uint64) string {
	show := func(v uint64) string {
		if v == unix.RLIM_INFINITY {
			return "RLIM_INFINITY"
		}
		return strconv.FormatUint(v, 10)
	}
	return "{cur=" + show(w[0]) + ", max=" + show(w[1]) + "}"
})

// schedAttr is struct sched_attr, sched_setattr(2).
var schedAttr = byWords(6, func(w []uint64) string {
	out := []string{"policy=" + one(w[0]>>32, schedulers)}
	for _, f := range []struct {
		name  string
		value uint64
	}{
		{"flags", w[1]}, {"nice", uint64(int64(int32(w[2])))}, {"priority", w[2] >> 32}, {"runtime", w[3]}, {"deadline", w[4]}, {"period", w[5]},
	} {
		if f.value != 0 {
			out = append(out, fmt.Sprintf("%s=%d", f.name, int64(f.value)))
		}
	}
	return "{" + strings.Join(out, ", ") + "}"
})

// cpus and nodes are bit masks.
var (
	cpus  = byWords(1, func(w []uint64) string { return "cpus " + numbersOf(w) })
	nodes = byWords(1, func(w []uint64) string { return "nodes " + numbersOf(w) })
)

func numbersOf(mask []uint64) string {
	var out []string
	for n := range 64 * len(mask) {
		if mask[n/64]&(1<<(n%64)) != 0 {
			out = append(out, strconv.Itoa(n))
		}
	}
	return strings.Join(out, ",")
}

// capHeader and capData are struct __user_cap_header_struct and _data_struct, capset(2).
func capHeader(a Arg, _ []Arg) string {
	if b, ok := a.(Bytes); ok && len(b) == 8 && binary.LittleEndian.Uint32(b) == unix.LINUX_CAPABILITY_VERSION_3 {
		return "{_LINUX_CAPABILITY_VERSION_3, " + strconv.Itoa(int(binary.LittleEndian.Uint32(b[4:]))) + "}"
	}
	return a.String()
}

func capData(a Arg, _ []Arg) string {
	b, ok := a.(Bytes)
	if !ok || len(b) != 24 {
		return a.String()
	}
	set := func(i int) string {
		low, high := binary.LittleEndian.Uint32(b[4*i:]), binary.LittleEndian.Uint32(b[12+4*i:])
		return capabilities(uint64(low) | uint64(high)<<32)
	}
	return "{effective=" + set(0) + ", permitted=" + set(1) + ", inheritable=" + set(2) + "}"
}

// groups is an array of ids, setgroups(2).
func groups(a Arg, args []Arg) string {
	b, ok := a.(Bytes)
	if !ok {
		return nullable(a, args)
	}
	var out []string
	for ; len(b) >= 4; b = b[4:] {
		out = append(out, strconv.FormatUint(uint64(binary.LittleEndian.Uint32(b)), 10))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// ioctlArgument shows the third argument of ioctl(2), by the request (ioctl_tty(2)).
func ioctlArgument(a Arg, args []Arg) string {
	request, _ := numberOf(args[1])
	switch request {
	case unix.TIOCGPTPEER:
		return openMode(a, args)
	case unix.TIOCSPTLCK:
		return byWords(1, func(w []uint64) string { return fmt.Sprintf("[%d]", w[0]) })(a, args)
	case unix.TIOCSWINSZ:
		return byWords(1, func(w []uint64) string {
			return fmt.Sprintf("{rows=%d, columns=%d}", w[0]&0xffff, w[0]>>16&0xffff)
		})(a, args)
	case unix.SIOCSIFFLAGS: // struct ifreq, netdevice(7)
		if b, ok := a.(Bytes); ok && len(b) > unix.IFNAMSIZ+2 {
			return fmt.Sprintf("{ifr_name=%q, ifr_flags=%s}", unix.ByteSliceToString(b[:unix.IFNAMSIZ]), bits(uint64(binary.LittleEndian.Uint16(b[unix.IFNAMSIZ:])), deviceFlags))
		}
	}
	return a.String()
}

// filter is struct sock_fprog, seccomp(2). Listings do not show its instructions.
func filter(a Arg, _ []Arg) string {
	b, ok := a.(*Blob)
	if !ok || len(b.Data) != 16 {
		return a.String()
	}
	return fmt.Sprintf("{%d instructions}", binary.LittleEndian.Uint16(b.Data))
}

// prctlArgument shows the second argument of prctl(2), by the option.
func prctlArgument(a Arg, args []Arg) string {
	option, _ := numberOf(args[0])
	v, ok := numberOf(a)
	if !ok {
		return a.String()
	}
	switch option {
	case unix.PR_SET_PDEATHSIG:
		if name := unix.SignalName(unix.Signal(v)); name != "" {
			return name
		}
	case unix.PR_CAPBSET_DROP:
		return capability(v)
	case unix.PR_SET_SECUREBITS:
		return bits(v, secureBits)
	case unix.PR_CAP_AMBIENT:
		return one(v, ambientActions)
	}
	return a.String()
}

// prctlCapability shows the third argument of prctl(2).
func prctlCapability(a Arg, args []Arg) string {
	option, _ := numberOf(args[0])
	if v, ok := numberOf(a); ok && option == unix.PR_CAP_AMBIENT {
		return capability(v)
	}
	return a.String()
}

// keyPermissions is the third argument of KEYCTL_SETPERM (keyctl_setperm(3)): one byte each
// for the possessor, the owner, its group and others.
func keyPermissions(a Arg, args []Arg) string {
	command, _ := numberOf(args[0])
	v, ok := numberOf(a)
	if !ok || command != unix.KEYCTL_SETPERM {
		return a.String()
	}
	rights := []flag{{"view", 1}, {"read", 2}, {"write", 4}, {"search", 8}, {"link", 16}, {"setattr", 32}}
	var out []string
	for i, who := range []string{"possessor", "user", "group", "other"} {
		set := v >> (24 - 8*i) & 0xff
		switch set {
		case 0:
		case 0x3f:
			out = append(out, who+"=all")
		default:
			out = append(out, who+"="+bits(set, rights))
		}
	}
	return "{" + strings.Join(out, ", ") + "}"
}
