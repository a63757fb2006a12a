package program

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestListing(t *testing.T) {
	p := append(Prelude(42), Fork("pid", "child", unix.CLONE_NEWPID, 7), Report("tell the pid", 1, "pid"), Exit(0))
	p = append(p,
		Call{Nr: unix.SYS_MKDIRAT, Args: []Arg{Int(unix.AT_FDCWD), Str("/a\n"), Int(0o755)}, IgnoreError: true, Errno: unix.EEXIST, Label: "child"},
		Call{Nr: unix.SYS_READ, Args: []Arg{Int(0), &Space{"byte", 1}, Int(1)}, Want: Equals(1), OnError: "gone"},
		Call{Nr: 9999, Args: []Arg{Bytes{1, 2}, Result("pid"), ResultAddr("pid")}},
		Call{Nr: unix.SYS_EXECVE, Args: []Arg{Str("/bin/true"), Strs{"true", "x"}, Strs{}}},
		Exit(1))
	p[len(p)-1].Label = "gone"
	want := `  0  prctl(PR_SET_NAME, "sysbox-init")  # name the process
  1  prctl(PR_SET_DUMPABLE, 0)  # refuse to be traced
  2  prctl(PR_SET_PDEATHSIG, 9)  # set the parent-death signal
  3  getppid() = 42  # check that the parent still lives
pid:
  4  clone3({CLONE_NEWPID|CLONE_PARENT|CLONE_INTO_CGROUP, cgroup 7}, 88), if 0 goto child  # clone
  5  write(3, record 1{02 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00}+8:$pid, 16) = 16  # tell the pid
  6  exit_group(0)
child:
  7  mkdirat(-100, "/a\n", 493), on EEXIST go on
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
