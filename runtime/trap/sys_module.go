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

// initModule answers init_module(2). The image is read for the module's name only.
func initModule(w *worker, c *call) response {
	return w.module(c, func() (string, error) {
		return imageName(&image{&c.caller, c.args[0], min(c.args[1], maxImage)})
	})
}

// finitModule answers finit_module(2): the module's name is its file's.
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

// module: no module of a container's is ever loaded. Where the host has one of that
// name, the call answers as for one that is loaded (EEXIST, which modprobe(8)
// takes for success); where the administrator allows the name, the host's own modprobe
// loads the host's own file. Otherwise the kernel refuses.
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
	if !c.waits() { // what was read may be another's: an execve of its process's takes the number over
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

// moduleName is a module's name as the kernel writes it, "" for what is none.
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

// loaded tells whether the host has a module: loaded, or in the kernel itself.
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

// modprobeDeadline bounds the host's modprobe.
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
