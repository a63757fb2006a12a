// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// initModule answers init_module(2). It reads only the module's name in the image.
func initModule(w *worker, c *call) response {
	return w.module(c, func() (string, error) {
		return imageName(&image{&c.caller, c.args[0], min(c.args[1], maxImage)})
	})
}

// finitModule answers finit_module(2). The name of the file is the name of the module.
func finitModule(w *worker, c *call) response {
	return w.module(c, func() (string, error) {
		buf := make([]byte, unix.PathMax)
		var n int
		err := c.withHandle(func(dir int) (err error) {
			n, err = unix.Readlinkat(dir, "fd/"+itoa(int32(c.args[0])), buf)
			return err
		})
		if err != nil {
			return "", unix.EBADF
		}
		return fileModule(string(buf[:n])), nil
	})
}

// module never loads a module of the container. If the host has a module of that name, it answers
// as for one that is loaded already (EEXIST, which modprobe(8) takes for success). If the
// administrator allows the name, the host's modprobe loads the host's file. Otherwise the kernel
// refuses the call.
func (w *worker) module(c *call, name func() (string, error)) response {
	s := w.server
	if !s.inContainerUserns(c) {
		return pass
	}
	id, err := c.identity()
	if err != nil || !id.has(capSysModule) {
		return pass
	}
	asked, err := name()
	if err != nil {
		return failure(err)
	}
	if !c.waits() { // an execve of another thread may have changed what was read
		return fail(unix.EINTR)
	}
	module := moduleName(asked)
	switch {
	case module == "":
		return pass
	case loaded(module):
		return fail(unix.EEXIST)
	case !allowed(module, s.cfg.Modules):
		s.logOnce("the container asked for the kernel module " + module + "; to allow it, add it to modules in the configuration")
		return pass
	}
	if err := modprobe(module); err != nil {
		s.logOnce("load the kernel module " + module + " for the container: " + err.Error())
		return fail(unix.ENOENT)
	}
	return response{}
}

// moduleName returns a module's name as the kernel writes it, "" if it is not a valid name.
func moduleName(s string) string {
	s = strings.ReplaceAll(s, "-", "_")
	if s == "" || len(s) > 55 { // MODULE_NAME_LEN
		return ""
	}
	for _, r := range s {
		if r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return ""
		}
	}
	return s
}

// loaded reports whether the host has a module, either loaded or built into the kernel.
func loaded(module string) bool {
	if _, err := os.Stat("/sys/module/" + module); err == nil {
		return true
	}
	b, err := os.ReadFile(moduleDir() + "/modules.builtin")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(b) {
		if fileModule(string(line)) == module {
			return true
		}
	}
	return false
}

// modprobeDeadline bounds the run of the host's modprobe.
const modprobeDeadline = time.Minute

func modprobe(module string) error {
	ctx, cancel := context.WithTimeout(context.Background(), modprobeDeadline)
	defer cancel()
	tool, err := exec.LookPath("modprobe")
	if err != nil {
		tool = "/sbin/modprobe"
	}
	cmd := exec.CommandContext(ctx, tool, "--", module)
	cmd.Env, cmd.Dir = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, "/"
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) > 0 {
		return errors.New(strings.TrimSpace(string(out[:min(len(out), 500)])))
	}
	return err
}
