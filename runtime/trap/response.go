package trap

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// verdict is the answer to a call.
type response struct {
	// pass lets the kernel execute the call.
	pass bool
	// errno is the call's error, 0 for success.
	errno unix.Errno
	// value is what a successful call returns.
	value int64
	// file is handed to the caller: its number there is what the call returns. It is
	// closed here.
	file *os.File
	// closeOnExec is file's flag there.
	closeOnExec bool
	// given is called when the file is closed; nil for nothing to do.
	onClose func()
}

// done tells whether the call was made, with success.
func (v response) done() bool { return !v.pass && v.errno == 0 }

// pass: the kernel's own answer is the best there is.
var pass = response{pass: true}

func fail(e unix.Errno) response { return response{errno: e} }

// errPass is [pass], where there are errors.
var errPass = errors.New("the kernel's own answer")

// err is the error of a call that was not made.
func (v response) err() error {
	if v.pass {
		return errPass
	}
	return v.errno
}

// failed is the verdict for an error of a system call made for the caller.
// What is no errno is a fault of ours.
func failure(err error) response {
	if errors.Is(err, errPass) {
		return pass
	}
	var e unix.Errno
	if errors.As(err, &e) && e != 0 {
		return fail(e)
	}
	return fail(unix.EIO)
}

// unreached is the verdict for a folder that could not be walked to or written. FUSE file systems of the
// container's let nobody in who is not in their user namespace, as this process: the kernel
// knows whether the caller may go there, and what it may do.
func pathFailure(err error) response {
	if errors.Is(err, unix.EACCES) {
		return pass
	}
	return failure(err)
}
