// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListing(t *testing.T) {
	p := append(Prelude(42), Fork("pid", "child", unix.CLONE_NEWPID, 7), Report("tell the pid", 1, "pid"), Exit(0))
	p = append(p,
		Call{Nr: unix.SYS_MKDIRAT, Args: []Arg{Int(unix.AT_FDCWD), Str("/a\n"), Int(0o755)}, IgnoreError: true, Errno: unix.EEXIST, Label: "child"},
		Call{Nr: unix.SYS_READ, Args: []Arg{Int(0), &Buffer{"byte", 1}, Int(1)}, Want: Equals(1), OnError: "gone"},
		Call{Nr: 9999, Args: []Arg{Bytes{1, 2}, Result("pid"), ResultAddr("pid")}},
		Call{Nr: unix.SYS_EXECVE, Args: []Arg{Str("/bin/true"), Strs{"true", "x"}, Strs{}}},
		Exit(1))
	p[len(p)-1].Label = "gone"
	want := `  0  prctl(PR_SET_NAME, "sysbox-init")  # name the process
  1  prctl(PR_SET_DUMPABLE, 0)  # refuse tracing
  2  prctl(PR_SET_PDEATHSIG, SIGKILL)  # set the parent-death signal
  3  getppid() = 42  # check that the parent still lives
  4  $pid = clone3({CLONE_NEWPID|CLONE_PARENT|CLONE_INTO_CGROUP, cgroup=7}, 88), if 0 goto child  # clone
  5  write(3, {report 1, $pid}, 16) = 16  # tell the pid
  6  exit_group(0)
child:
  7  mkdirat(AT_FDCWD, "/a\n", 0755), on EEXIST go on
  8  read(0, byte[1], 1) = 1, on error goto gone
  9  syscall_9999({01 02}, $pid, &$pid)
 10  execve("/bin/true", ["true", "x"], [])
gone:
 11  exit_group(1)
`
	if got := p.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// What has a name is shown by it, and what has none as a number.
func TestDecoders(t *testing.T) {
	le := func(words ...uint64) Bytes {
		var b Bytes
		for _, w := range words {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		return b
	}
	for _, c := range []struct {
		call Call
		want string
	}{
		{Call{Nr: unix.SYS_OPENAT, Args: []Arg{Int(3), Str("x"), Int(0), Int(0)}}, `openat(3, "x", O_RDONLY, 0)`},
		{Call{Nr: unix.SYS_OPENAT, Args: []Arg{Int(3), Str("x"), Int(unix.O_DIRECTORY | 1<<30), Int(0)}}, `openat(3, "x", O_RDONLY|O_DIRECTORY|0x40000000, 0)`},
		{Call{Nr: unix.SYS_OPENAT2, Args: []Arg{Result("dir"), Str("x"), le(unix.O_CREAT|unix.O_WRONLY, 0o600, unix.RESOLVE_BENEATH), Int(24)}}, `openat2($dir, "x", {flags=O_CREAT|O_WRONLY, mode=0600, resolve=RESOLVE_BENEATH}, 24)`},
		{Call{Nr: unix.SYS_UNSHARE, Args: []Arg{Int(unix.CLONE_NEWNS | unix.CLONE_NEWIPC | 1)}}, "unshare(CLONE_NEWNS|CLONE_NEWIPC|0x1)"},
		{Call{Nr: unix.SYS_PRCTL, Args: []Arg{Int(unix.PR_CAPBSET_DROP), Int(21), Int(0), Int(0), Int(0)}}, "prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN)"},
		{Call{Nr: unix.SYS_PRCTL, Args: []Arg{Int(unix.PR_CAPBSET_DROP), Int(63)}}, "prctl(PR_CAPBSET_DROP, 63)"},
		{Call{Nr: unix.SYS_PRCTL, Args: []Arg{Int(unix.PR_CAP_AMBIENT), Int(unix.PR_CAP_AMBIENT_RAISE), Int(13), Int(0), Int(0)}}, "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW)"},
		{Call{Nr: unix.SYS_PRCTL, Args: []Arg{Int(unix.PR_SET_SECUREBITS), Int(NoSetuidFixup)}}, "prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)"},
		{Call{Nr: unix.SYS_PRCTL, Args: []Arg{Int(99), Int(1)}}, "prctl(0x63, 1)"},
		{Call{Nr: unix.SYS_PRLIMIT64, Args: []Arg{Int(0), Int(7), le(1, unix.RLIM_INFINITY), Int(0)}}, "prlimit64(0, RLIMIT_NOFILE, {cur=1, max=RLIM_INFINITY}, NULL)"},
		{Call{Nr: unix.SYS_PRLIMIT64, Args: []Arg{Int(0), Int(7), Bytes{1}, Int(0)}}, "prlimit64(0, RLIMIT_NOFILE, {01}, NULL)"},
		{Call{Nr: unix.SYS_SCHED_SETATTR, Args: []Arg{Int(0), le(48, 0, uint64(uint32(0xfffffffb)), 0, 0, 0), Int(0)}}, "sched_setattr(0, {policy=SCHED_OTHER, nice=-5}, 0)"},
		{Call{Nr: unix.SYS_MOUNT, Args: []Arg{Int(0), Str("/d"), Int(0), Int(unix.MS_REC | unix.MS_SLAVE), Int(0)}}, `mount(NULL, "/d", NULL, MS_REC|MS_SLAVE, NULL)`},
		{Call{Nr: unix.SYS_MKNODAT, Args: []Arg{Int(4), Str("n"), Int(unix.S_IFCHR | 0o666), Int(int64(unix.Mkdev(1, 3)))}}, `mknodat(4, "n", S_IFCHR|0666, makedev(1, 3))`},
		{Call{Nr: unix.SYS_SETRESUID, Args: []Arg{Int(int64(^uint32(0))), Int(1000), Int(-1)}}, "setresuid(-1, 1000, -1)"},
		{Call{Nr: unix.SYS_CAPSET, Args: []Arg{le(unix.LINUX_CAPABILITY_VERSION_3), append(le(1|1<<32<<21, 0), le(0)...)}}, "capset({_LINUX_CAPABILITY_VERSION_3, 0}, {effective=CAP_CHOWN, permitted=CAP_SYS_ADMIN, inheritable=none})"},
		{Call{Nr: unix.SYS_IOCTL, Args: []Arg{Int(0), Int(unix.TIOCSWINSZ), le(25 | 80<<16)}}, "ioctl(0, TIOCSWINSZ, {rows=25, columns=80})"},
		{Call{Nr: unix.SYS_IOCTL, Args: []Arg{Int(0), Int(0x99)}}, "ioctl(0, 0x99)"},
		{Call{Nr: unix.SYS_IOCTL, Args: []Arg{Int(0), Int(unix.SIOCSIFFLAGS), append(Bytes("lo"), make(Bytes, 38)...)}}, `ioctl(0, SIOCSIFFLAGS, {ifr_name="lo", ifr_flags=0})`},
		{Call{Nr: unix.SYS_IOCTL, Args: []Arg{Int(0), Int(unix.SIOCSIFFLAGS), Bytes("lo")}}, "ioctl(0, SIOCSIFFLAGS, {6c 6f})"},
		{Call{Nr: unix.SYS_SOCKET, Args: []Arg{Int(unix.AF_UNIX), Int(unix.SOCK_SEQPACKET | unix.SOCK_CLOEXEC), Int(0)}}, "socket(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC, 0)"},
	} {
		if got := c.call.line(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	if got, want := capabilities(1<<41-1), "all 41 up to CAP_CHECKPOINT_RESTORE"; got != want {
		t.Errorf("all capabilities: %q, want %q", got, want)
	}
}

// A jump goes where it says, and a mark is where the next call is.
func TestGoto(t *testing.T) {
	p := Program{
		Goto("over"), Exit(3),
		{Name: "never made", Nr: unix.SYS_EXIT_GROUP, Args: []Arg{Int(4)}, Marks: []string{"unused"}},
		{Nr: unix.SYS_EXIT_GROUP, Args: []Arg{Int(5)}, Marks: []string{"over", "there"}, Label: "end"},
	}
	want := "  0  goto over\n  1  exit_group(3)\n  2  exit_group(4)  # never made\nover:\n  3  exit_group(5)\n"
	if got := p.String(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	exit(t, start(t, p).Process, 5)
	p[3].Marks[1] = "unused"
	if _, err := p.Compile("amd64"); err == nil {
		t.Error("a label that is used twice compiles")
	}
}

// TestErrorsHaveNoLabels: an error shows the results that its call takes by the calls that
// gave them, wherever in the arguments they are.
func TestErrorsHaveNoLabels(t *testing.T) {
	p := Program{
		{Name: "open the root", Nr: unix.SYS_OPENAT, Args: []Arg{Int(unix.AT_FDCWD), Str("/"), Int(unix.O_PATH), Int(0)}, Label: "r1"},
		{Nr: unix.SYS_OPENAT, Args: []Arg{Result("r1"), Str("d"), Int(0), Int(0)}, Label: "r10"},
		{Name: "read", Nr: unix.SYS_READ, Args: []Arg{Result("r10"), ResultAddr("r1"), Int(8)}},
		{Nr: 9999, Args: []Arg{&Blob{Name: "outer", Data: make([]byte, 8), Refs: []Ref{{0, &Blob{Name: "inner", Data: make([]byte, 8), Refs: []Ref{{4, Result("r10")}}}}}}}},
		Report("report", 2, "r1"),
		{Nr: 9999, Args: []Arg{Result("none")}},
	}
	p = append(p, SendFile("send", 5, "$r10", Result("r10")))
	const root, dir = `openat(AT_FDCWD, "/", O_PATH, 0)`, `openat(<open the root>, "d", O_RDONLY, 0)`
	for i, want := range map[int]string{
		1: "openat: openat(" + root + `, "d", O_RDONLY, 0): operation not permitted`,
		2: "read: read(" + dir + ", &" + root + ", 8): operation not permitted",
		4: "report: write(3, {report 2, " + root + "}, 16): operation not permitted",
		5: "syscall_9999: syscall_9999(<an earlier result>): operation not permitted",
	} {
		if got := p.Fail(i, -1).Error(); got != want {
			t.Errorf("%d: got  %s\nwant %s", i, got, want)
		}
	}
	for i := range p {
		if got := p.Fail(i, -1).Error(); strings.Contains(got, "$") {
			t.Errorf("%d: %s", i, got)
		}
	}
}
