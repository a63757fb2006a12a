// SPDX-License-Identifier: Apache-2.0

package upstream

// expectations are how many tests a suite has, and the verdicts of those that do not
// pass. A test or subtest that is not here must pass, and one that is here must not.
type expectations struct {
	tests int
	but   map[string]expectation
	// racy are tests that race with themselves or a clock, and how: one that fails is run again,
	// twice at most.
	racy map[string]string
}

// notRun is the verdict of a test that is left out, as it would wait in vain or end the
// suite.
const notRun = "not run"

// expectation is a verdict, and why it is not to pass.
type expectation struct{ result, why string }

var ofClient = expectations{112, map[string]expectation{
	"TestContainerKillAll":         {"FAIL", hostPID},
	"TestContainerKillInitPidHost": {"FAIL", hostPID},
	"TestIssue9103":                {"FAIL", runcOnly},
	"TestIssue9103/should_be_stopped_status_if_init_has_been_killed": {"FAIL", runcOnly},
	"TestIssue10589":                 {"FAIL", runcOnly},
	"TestKillContainerDeletedByRunc": {"FAIL", runcOnly},

	"TestCheckpointLeaveRunning":         {"SKIP", checkpoint},
	"TestCheckpointOnPauseStatus":        {"SKIP", checkpoint},
	"TestCheckpointRestore":              {"SKIP", checkpoint},
	"TestCheckpointRestoreNewContainer":  {"SKIP", checkpoint},
	"TestCheckpointRestorePTY":           {"SKIP", checkpoint},
	"TestCheckpointRestoreWithImagePath": {"SKIP", checkpoint},
}, map[string]string{
	"TestContentClient":               "removes a folder of the content store that another goroutine still writes to; runs no container",
	"TestDaemonRuntimeRoot":           ownDaemon,
	"TestDaemonCustomCgroup":          ownDaemon,
	"TestRestartMonitor":              ownDaemon,
	"TestShimTraceContextPropagation": ownDaemon,
}}

const (
	hostPID     = "wants the host's pid namespace, which is refused"
	runcOnly    = "names a runc binary or runc's folders in the runtime's options"
	hostNetwork = "wants the host's network, which is refused"
	oneNode     = "wants two memory nodes"
	failpoint   = "names a shim of containerd's own that fails when it is told to"
	ownDaemon   = "gives a containerd that it starts two seconds to come up"
	checkpoint  = "criu is not there, and checkpoints are not implemented"
)

var ofCRI = expectations{62, map[string]expectation{
	"TestSharedPidMultiProcessContainerStop":         {"FAIL", hostPID},
	"TestSharedPidMultiProcessContainerStop/hostpid": {"FAIL", hostPID},
	"TestPodHostname": {"FAIL", hostNetwork},
	"TestPodHostname/host_network_pod_without_custom_hostname": {"FAIL", hostNetwork},
	"TestRunContainerWithVolatileOption":                       {"FAIL", "starts a containerd of its own, with runc, whose pause image comes from a public registry"},
	"TestContainerdImageWithDockerSchema1":                     {"FAIL", "its image is of an old form, of which there is no stand-in"},

	"TestUpdateContainerResources_MemorySwap": {"SKIP", "the kernel counts no swap for cgroups"},
	"TestIssue7496_ShouldRetryShutdown":       {"SKIP", failpoint},
	"TestNriLinuxMemsetAdjustment":            {"SKIP", oneNode},
	"TestNriLinuxMemsetAdjustmentUpdate":      {"SKIP", oneNode},

	"TestCRIImagePullTimeout":                             {notRun, "panics on a host without a default route; it runs no container"},
	"TestSandboxStopWithNilCNIResult":                     {notRun, failpoint},
	"TestRunPodSandboxWithSetupCNIFailure":                {notRun, failpoint},
	"TestRunPodSandboxWithShimStartFailure":               {notRun, failpoint},
	"TestRunPodSandboxWithShimDeleteFailure":              {notRun, failpoint},
	"TestRunPodSandboxWithShimStartAndTeardownCNIFailure": {notRun, failpoint},
	"TestRunPodSandboxAndTeardownCNISlow":                 {notRun, failpoint},
}, map[string]string{
	"TestNriLinuxCpusetAdjustmentUpdate": "reads a file that the container empties and writes five times a second",
	"TestContainerStopCancellation":      "sends SIGTERM to a shell that may not have set its trap yet, and is not pid 1 of its namespace",
	"TestSandboxRemoveWithoutIPLeakage":  "gives containerd 30 seconds to show the end of a sandbox, after the suite has killed and restarted it",
}}
