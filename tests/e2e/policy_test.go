// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// reach tells how far some calls of a container go.
const reach = "tests/e2e/testdata/reach/reach.go"

// ctrRun runs a container of ctr's to its end and returns what both printed.
func (h *host) ctrRun(t *testing.T, image string, flags []string, command ...string) (string, error) {
	t.Helper()
	args := slices.Concat([]string{"run", "--rm", "--runtime", harness.Runtime}, flags, []string{image, newID()}, command)
	out, err := h.Ctr(background(t), args...).CombinedOutput()
	return string(out), err
}

// TestWhoMaySet: what an image, a caller and the administrator say of settings, through ctr.
func TestWhoMaySet(t *testing.T) {
	const (
		caps     = "grep CapEff /proc/self/status"
		all      = "000001ffffffffff"
		none     = "00000000a80425fb" // ctr's default
		ids      = "stat -c %u /data"
		fixed    = "[settings.honor_caps]\ndefault = true\nfrom = []\n"
		nobody   = "[settings]\nsources = []\n"
		heard    = "[settings]\nsources = [\"annotations\"]\n"
		allowed  = "[settings.skip_uid_shift]\nfrom = [\"environment\"]\n"
		honour   = "SYSBOX_HONOR_CAPS=TRUE"
		skip     = "SYSBOX_SKIP_UID_SHIFT=/data"
		skipNote = "io.sysbox.skip-uid-shift=/data"
	)
	env := func(s string) []string { return []string{"--env", s} }
	annotation := func(s string) []string { return []string{"--annotation", s} }
	both(t, func(t *testing.T, h *host) {
		image := func(variable string) string {
			name := "docker.io/library/env-" + strings.ToLower(strings.NewReplacer("=", "-", "/", "-", "_", "-").Replace(variable)) + ":test"
			archive := filepath.Join(t.TempDir(), "image.tar")
			if err := images.WithEnv(archive, name, variable); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Load(background(t), archive); err != nil {
				t.Fatal(err)
			}
			return name
		}
		plain, honouring, skipping := images.BusyboxName, image(honour), image(skip)
		volume := t.TempDir() // the host's root's
		line := filepath.Join(h.Dir, "sysbox.toml") + ", line "
		for _, c := range []struct {
			name, config string
			image        string
			flags        []string
			script       string
			want         []string
			refused      bool
		}{
			{"nobody asks", "", plain, nil, caps, []string{all}, false},
			{"the image's variable", "", honouring, nil, caps, []string{none}, false},
			{"the caller's variable", "", plain, env(honour), caps, []string{none}, false},
			{"the caller's annotation", "", plain, annotation("io.sysbox.honor-caps=TRUE"), caps, []string{none}, false},
			{"the caller takes the image's variable back", "", honouring, env("SYSBOX_HONOR_CAPS="), caps, []string{all}, false},
			{"both differ", "", honouring, annotation("io.sysbox.honor-caps=FALSE"), caps, []string{"annotations io.sysbox.honor-caps is \"FALSE\"", "process.env has SYSBOX_HONOR_CAPS=TRUE", "--env SYSBOX_HONOR_CAPS="}, true},

			{"whose ids, by the image", "", skipping, nil, ids, []string{"process.env SYSBOX_SKIP_UID_SHIFT is \"/data\"", "since they can come from the image", "--annotation " + skipNote, "(--env SYSBOX_SKIP_UID_SHIFT=)"}, true},
			{"whose ids, by the caller's variable", "", plain, env(skip), ids, []string{"process.env SYSBOX_SKIP_UID_SHIFT", "--annotation " + skipNote}, true},
			{"whose ids, by the caller's annotation", "", plain, annotation(skipNote), ids, []string{"65534"}, false},
			{"whose ids, taken back", "", skipping, env("SYSBOX_SKIP_UID_SHIFT="), ids, []string{"\n0\n"}, false},
			{"whose ids, by the image where the administrator lets it", allowed, skipping, nil, ids, []string{"65534"}, false},
			{"whose ids, by the annotation where the administrator lets the environment", allowed, plain, annotation(skipNote), ids, []string{"annotations io.sysbox.skip-uid-shift is \"/data\"", "settings.skip_uid_shift.from", line + "4", "--env " + skip}, true},

			{"fixed, nobody asks", fixed, plain, nil, caps, []string{none}, false},
			{"fixed, the image asks for what holds", fixed, honouring, nil, caps, []string{none}, false},
			{"fixed, the image asks for another", fixed, image("SYSBOX_HONOR_CAPS=FALSE"), nil, caps, []string{"process.env SYSBOX_HONOR_CAPS is \"FALSE\"", "settings.honor_caps.from", line + "5", `its value is "TRUE"`, "remove it", "(--env SYSBOX_HONOR_CAPS=)"}, true},
			{"fixed, the caller's variable", fixed, plain, env("SYSBOX_HONOR_CAPS=FALSE"), caps, []string{"settings.honor_caps.from", line + "5"}, true},
			{"fixed, the caller's annotation", fixed, plain, annotation("io.sysbox.honor-caps=FALSE"), caps, []string{"annotations io.sysbox.honor-caps is \"FALSE\"", "settings.honor_caps.from", line + "5", "remove it"}, true},

			{"nobody is heard, nobody asks", nobody, plain, nil, caps, []string{all}, false},
			{"nobody is heard, the image", nobody, honouring, nil, caps, []string{"settings.sources", line + "4"}, true},
			{"nobody is heard, the caller's annotation", nobody, plain, annotation("io.sysbox.syscont-mode=FALSE"), caps, []string{"annotations io.sysbox.syscont-mode", "settings.sources", line + "4"}, true},
			{"annotations are heard, the caller's variable", heard, plain, env(honour), caps, []string{"settings.sources", line + "4", "--annotation io.sysbox.honor-caps=TRUE"}, true},
			{"annotations are heard, the caller's annotation", heard, plain, annotation("io.sysbox.honor-caps=TRUE"), caps, []string{none}, false},
		} {
			t.Run(c.name, func(t *testing.T) {
				h.configure(t, c.config)
				mount := []string{"--mount", "type=bind,src=" + volume + ",dst=/data,options=rbind"}
				out, err := h.ctrRun(t, c.image, slices.Concat(mount, c.flags), "sh", "-c", "echo; "+c.script)
				if (err != nil) != c.refused {
					t.Errorf("%v: %s", err, out)
				}
				for _, w := range c.want {
					if !strings.Contains(out, w) {
						t.Errorf("%q does not say %q", out, w)
					}
				}
			})
		}
	})
}

// TestFloor: a container of ctr's without anything has the kernel start nothing on the host
// for a key, sees an empty log, reaches itself, and lets an ordinary user ping; under
// containerd's profile as well.
func TestFloor(t *testing.T) {
	dir, err := peers.Program(reach)
	if err != nil {
		t.Fatal(err)
	}
	all(t, func(t *testing.T, h *host) {
		for _, c := range []struct {
			name  string
			flags []string
			key   string
		}{
			{"plain", nil, "required key not available"},
			{"containerd's profile", []string{"--seccomp"}, "operation not permitted"},
			{"a user", nil, "required key not available"},
		} {
			command := []string{"sh", "-c", "/reach/reach; dmesg; echo dmesg: $?"}
			if c.name == "a user" {
				command = []string{"su", "user", "-c", command[2]}
			}
			out, err := h.ctrRun(t, images.BusyboxName, slices.Concat(c.flags, []string{"--mount", "type=bind,src=" + dir + ",dst=/reach,options=rbind:ro"}), command...)
			want := "key: " + c.key + "\nlog: 0 <nil>\n127.0.0.1: <nil>\n::1: <nil>\nping: <nil>\ndmesg: 0\n"
			if err != nil || !strings.HasSuffix(out, want) { // ctr may warn of the host first
				t.Errorf("%s: %v, output\n%swant\n%s", c.name, err, out, want)
			}
		}
	})
}

// TestSudo: the README's line makes a machine in which setuid programs work. Without its flag
// they do not, which the log says; the administrator can lift that.
func TestSudo(t *testing.T) {
	const lift = "[settings.no_new_privileges]\ndefault = \"lift\"\n"
	under(t, []string{peers.Newest, peers.Debian}, func(t *testing.T, h *host) {
		archive, err := images.Debian()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Load(background(t), archive); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name, config string
			flags        []string
			works        bool
			log          string
		}{
			{"the README's line", "", []string{"--allow-new-privs"}, true, ""},
			{"without the flag", "", nil, false, "process.noNewPrivileges is true, so sudo, su and other setuid programs gain no privileges in this container"},
			{"lifted", lift, nil, true, "process.noNewPrivileges is true but not applied"},
		} {
			t.Run(c.name, func(t *testing.T) {
				h.configure(t, c.config)
				id := newID()
				args := slices.Concat([]string{"run", "-d"}, c.flags, []string{"--runtime", harness.Runtime, images.DebianName, id})
				if out, err := h.Ctr(background(t), args...).CombinedOutput(); err != nil {
					t.Fatalf("ctr %s: %v\n%s", args, err, out)
				}
				t.Cleanup(func() { h.remove(t, id) })
				script := "useradd u1 && passwd -qd root && setpriv --reuid u1 --regid u1 --clear-groups su root -c 'id -u' </dev/null"
				out, err := h.Ctr(background(t), "task", "exec", "--exec-id", newID(), id, "sh", "-c", script).CombinedOutput()
				if works := err == nil && strings.HasSuffix(string(out), "0\n"); works != c.works {
					t.Errorf("su works: %v (%v): %s", works, err, out)
				}
				said := ""
				for line := range strings.Lines(h.Log()) {
					if strings.Contains(line, id) && strings.Contains(line, "noNewPrivileges") {
						said += line
					}
				}
				if (c.log == "") != (said == "") || !strings.Contains(said, c.log) {
					t.Errorf("the log says %q, want %q", said, c.log)
				}
			})
		}
	})
}
