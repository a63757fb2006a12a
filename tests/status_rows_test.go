// SPDX-License-Identifier: Apache-2.0

package tests

// A feature is a row of docs/status.md.
type feature struct {
	what  string // Markdown, relative to docs
	state string // Markdown: what a user can expect
	// tests are the names of tests that show it, with their package in backticks where two
	// packages have a test of that name; "" for what does not exist, or was tried by hand.
	tests string
	also  string // other evidence, in words
}

// status are the rows of docs/status.md by their headings. Numbers in them are checked by the
// suites that they count: tests/contract, tests/upstream and tests/conformance.
var status = []struct {
	heading string
	rows    []feature
}{
	{"In the container", []feature{
		{"systemd boots to `running` (Debian 13, unmodified)", "works", "TestSystemd", ""},
		{"Docker 26: load, run with a bridge network, exec, build, `--privileged`", "works", "TestSystemd", ""},
		{"systemd 262, Docker 28 and the engine 2.0.0-beta.24 with the command 29.9, containerd 2.4.2, podman 5.8 as root and as a user, runc 1.5, crun 1.28, buildx", "work", "TestInner", ""},
		{"`unshare -Urpf --mount-proc` and other nested mounts of proc", "work", "TestTreeIsLocked, TestInner", ""},
		{"[trapped system calls](system-calls.md): mknod, plain binds of /dev and others, overlay, module loading, sysinfo", "work; under a memory limit busybox's `free` mixes sysinfo with the host's /proc/meminfo", "TestTraps, TestTrapPrivileges, TestSysinfo, TestModules", ""},
		{"storage of inner images after stop and start, in a commit, in a volume for the next container", "kept, layers whole", "TestStorageStays, TestInnerDockerStays", ""},
		{"block devices mounted from inside (`mount /dev/vdb /mnt`) through FUSE, where the [administrator allows it](configuration.md#block-devices)", "works for the devices of the spec, with mount(8) of Debian 12 and 13 and with fstab", "TestDisks, TestFUSEMounts", ""},
		{"an NFS server in user space (nfs-ganesha, from memory), a client in another container", "works; the kernel's server does not: [why](compatibility.md#nfs)", "TestNFS", ""},
		{"mounts of NFS and CIFS from inside", "fail with EPERM: the kernel refuses them", "TestLeftToTheKernel", ""},
		{"values of /proc and /sys for each container, such as LXCFS shows", "not yet", "", ""},
	}},
	{"Callers", []feature{
		{"containerd 2.4.2 and 1.7.35 (both start protocols)", "work", "TestLifecycle, TestExec, TestTerminal", "every test of `tests/e2e`"},
		{"containerd 2.3.7, 2.2.9 and 1.6.20 (Debian 12)", "work", "TestLifecycle", "the tests of a container's life"},
		{"the client suite of containerd 2.4.2", "101 of 112 pass, 5 fail, 6 skip: [why](../tests/upstream/expected.go)", "TestClient", ""},
		{"the CRI suite of containerd 1.7.35", "47 of 62 pass, 4 fail, 4 skip, 7 are not run: [why](../tests/upstream/expected.go)", "TestCRI", ""},
		{"the shim's contract beside containerd-shim-runc-v2 of 2.4.2 and 1.7.35: start, task service, events, streams, kill -9 at every call", "101 cases, 66 differences: [why](../tests/contract/differences.go)", "TestContract", ""},
		{"Kubernetes pods through the CRI plugins of these versions, plain and, from 1.7 on, with `hostUsers: false` ([set-up](configuration.md#kubernetes))", "work; root of a plain pod has no rights over its network yet", "TestCRIPod, TestCRIRefused, TestCRISettings, TestCRISharedProcesses, TestCRIOutOfMemory", ""},
		{"Docker (engine 2.0.0-beta.24, command 29.9), by `--runtime` and by `daemon.json`, with containerd's snapshotter and with overlay2: run, exec, cp, stop, start, commit, build, networks, ports, volumes, limits, terminals", "works; `docker cp` reaches running containers, [but not with overlay2 after a restart of dockerd with live-restore](configuration.md#docker)", "TestDockerAsCaller, TestDockerCopies, TestDockerCopiesAfterRestart", ""},
		{"nerdctl 2.1.2 without its networks: run, exec, stop, start, commit, limits, refusals", "works; `nerdctl cp` into a running container does not ([use tar](configuration.md#nerdctl))", "", "by hand, 26 November 2026"},
		{"exec, terminals, signals, pause, limits, OOM events, update, metrics, loggers", "work", "TestExec, TestExecTerminal, TestTerminal, TestSignals, TestPause, TestLimitsTakeEffect, TestMetricsAndUpdate, TestLogBinary, TestLogFile", ""},
		{"rootless containerd, Docker or nerdctl", "refused: the shim needs the host's root", "", ""},
		{"checkpoint and restore, sandbox API, CRI-O, hand-over of the network of plain pods", "not yet", "", ""},
	}},
	{"Failures and load", []feature{
		{"containerd restarted, upgraded from 1.7.35 to 2.4.2, or killed during a call; the shim killed with SIGKILL", "survived; nothing is left", "TestRestart, TestUpgrade, TestCrashAmid, TestKilledShimInEveryState, TestDeleteTwice, TestEndWhileAway", ""},
		{"the binary replaced while containers of the last version run", "works", "TestLastVersion", ""},
		{"200 containers at once, 1,000 in a row", "work; nothing is left", "TestTwoHundredAtOnce, TestThousandInARow", ""},
	}},
	{"Specification", []feature{
		{"runtime-spec 1.3", "179 fields: 136 honoured, 24 where the host can, 19 refused ([which, and how each is checked](compatibility.md#runtime-specification))", "TestEveryField, `tests/conformance` TestTable", ""},
		{"hooks of all six kinds, sysctls, seccomp profiles, rlimits, devices, network devices of the host", "work", "TestSpec, TestHooks, TestNetDevice", ""},
		{"AppArmor profiles of the spec", "work, in a virtual machine", "TestAppArmor", ""},
		{"SELinux labels of processes and mounts", "work, in a virtual machine with Debian's policy, permissive. Under an enforcing policy they need [rules for containerd's domain](compatibility.md#selinux), which nobody has tried", "TestSELinux", "`make test-vm-selinux`"},
	}},
	{"Hosts", []feature{
		{"cgroup v1 and v2 together (hybrid)", "works", "TestLimitsTakeEffect", "every test that CI runs"},
		{"cgroup v1 alone, with v2 not mounted", "works", "TestCgroup2NotMounted", ""},
		{"cgroup v2 alone, systemd as the host's init and as the cgroup driver", "work, in a virtual machine", "TestSmoke, TestSystemdDriver", "CI runs a part on the newest kernel, `make test-vm` the rest by hand"},
		{"Linux 6.1, 6.12, 6.18, 7.3 ([what each lacks, how the tests went](compatibility.md))", "work", "TestSmoke", "`make test-vm-all`"},
		{"arm64", "compiled and vetted, never run", "", "`make cross`"},
	}},
}
