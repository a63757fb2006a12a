// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// response is the answer to a call.
type response struct {
	// pass lets the kernel execute the call.
	pass bool
	// errno is the call's error, 0 for success.
	errno unix.Errno
	// value is what a successful call returns.
	value int64
	// file is handed to the caller; the call returns the file's number there. The shim closes its
	// own copy.
	file *os.File
	// closeOnExec is the flag that the file has in the caller.
	closeOnExec bool
	// onClose is called after the shim has closed file; nil for nothing to do.
	onClose func()
}

// done reports whether the call was made and succeeded.
func (v response) done() bool { return !v.pass && v.errno == 0 }

// pass lets the kernel execute the call, because nothing better can be answered.
var pass = response{pass: true}

func fail(e unix.Errno) response { return response{errno: e} }

// errPass is [pass] as an error.
var errPass = errors.New("the kernel's own answer")

// err is the error of a call that was not made.
func (v response) err() error {
	if v.pass {
		return errPass
	}
	return v.errno
}

// failure is the response for an error of a system call that the shim made for the caller. An
// error that has no errno is a fault of the shim.
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

// pathFailure is the response for a directory that could not be reached or written to. A FUSE
// file system of the container lets in only processes of its own user namespace, so the shim gets
// EACCES. The kernel knows whether the caller may go there and what it may do.
func pathFailure(err error) response {
	if errors.Is(err, unix.EACCES) {
		return pass
	}
	return failure(err)
}
