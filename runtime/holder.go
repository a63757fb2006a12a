package runtime

import (
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// holder is a process that systemd puts in a new scope, which cannot exist without
// one, until the container's init has joined. It ends with this process as well.
type holder struct {
	child *program.Child
	end   *os.File // closed, ends it
}

// holderPipe is the number of the read end.
const holderPipe = 4

func startHolder() (*holder, error) {
	r, w, err := program.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	child, err := program.Start(program.Program{
		{Name: "hold the scope", Nr: unix.SYS_READ, Args: []program.Arg{program.Int(holderPipe), &program.Space{Name: "buffer", N: 1}, program.Int(1)}},
		program.Exit(0),
	}, program.Options{Name: "sysbox-holder", Files: []program.File{{File: r, At: holderPipe}}})
	if err != nil {
		w.Close()
		return nil, err
	}
	return &holder{child, w}, nil
}

func (h *holder) close() {
	h.end.Close()
	_, _ = h.child.Wait() // nothing depends on how it ended
	h.child.Close()
}
