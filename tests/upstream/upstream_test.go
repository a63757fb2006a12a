package upstream

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sysbox/tests/harness"
	"sysbox/tests/peers"
)

// host is where the registry listens, in a network namespace of the tests' own. One
// test's answer depends on there being no port in the name.
const host = "127.0.0.1"

// only names the environment variable with a pattern of the tests to be run.
const only = "TEST_UPSTREAM"

var stock = newRegistry()

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() || os.Getuid() != 0 {
		os.Exit(m.Run()) // each test says why it skips
	}
	os.Exit(harness.Private(func() error {
		if _, err := peers.Containerd(peers.Newest); err != nil {
			return err
		}
		if _, err := peers.Runc(); err != nil {
			return err
		}
		_, err := build()
		return err
	}, m.Run))
}

func build() (string, error) {
	digest, err := images(stock)
	if err != nil {
		return "", err
	}
	return peers.ClientSuite(host, digest.String())
}

// TestClient runs the suite. What a test of it says is compared with what is expected.
func TestClient(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	suite, err := build()
	if err != nil {
		t.Fatal(err)
	}
	serve(t)
	results := runSuite(t, suite)
	counts := map[string]int{}
	for name, got := range results {
		counts[got.result]++
		want, listed := expected[name]
		switch {
		case !listed && got.result != "PASS":
			t.Errorf("%s: %s\n%s", name, got.result, got.output)
		case listed && got.result != want.result:
			t.Errorf("%s: %s, which is not what is expected of it: %s (%s); mend the list\n%s", name, got.result, want.result, want.why, got.output)
		}
	}
	for name := range expected {
		if os.Getenv(only) == "" && results[name].result == "" {
			t.Errorf("%s is expected to %s, and was not run", name, expected[name].result)
		}
	}
	t.Logf("containerd %s's client suite: %d tests pass, %d fail, %d skip", peers.Newest, counts["PASS"], counts["FAIL"], counts["SKIP"])
}

// serve brings the loopback device up and has the registry served there.
func serve(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip link set lo up: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", host+":80")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: stock}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}

type result struct{ result, output string }

var verdict = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+) \(`)

// runSuite runs the suite's binary, which starts a containerd of its own.
func runSuite(t *testing.T, suite string) map[string]result {
	t.Helper()
	bin, err := peers.Containerd(peers.Newest)
	if err != nil {
		t.Fatal(err)
	}
	shim, err := peers.Shim()
	if err != nil {
		t.Fatal(err)
	}
	runc, err := peers.Runc() // which some tests name
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "sysbox.toml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf("state_dir = %q\ndata_dir = %q\n", dir+"/run", dir+"/lib")), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.v", "-test.root", "-no-criu", "-test.timeout=15m"}
	if which := os.Getenv(only); which != "" {
		args = append(args, "-test.run="+which)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(suite, "client.test"), args...)
	cmd.Dir = suite
	cmd.Env = append(os.Environ(), "PATH="+shim+":"+bin+":"+runc+":"+os.Getenv("PATH"), "TEST_RUNTIME="+harness.Runtime, "SYSBOX_CONFIG_FILE="+config)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	results, all := read(pipe)
	_ = cmd.Wait() // its exit status says that tests fail, as some are expected to
	if len(results) == 0 {
		t.Fatalf("the suite ran no test:\n%s", all)
	}
	if name := os.Getenv("TEST_UPSTREAM_LOG"); name != "" {
		if err := os.WriteFile(name, []byte(all), 0o600); err != nil {
			t.Error(err)
		}
	}
	return results
}

// read collects what each test says, from its start to its verdict.
func read(r io.Reader) (map[string]result, string) {
	results := map[string]result{}
	var all strings.Builder
	said := map[string]*strings.Builder{}
	current := ""
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := s.Text()
		fmt.Fprintln(&all, line)
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "===" {
			current, _, _ = strings.Cut(fields[2], "/")
		}
		if m := verdict.FindStringSubmatch(line); m != nil {
			current = m[2]
			results[current] = result{m[1], ""}
		}
		if said[current] == nil {
			said[current] = &strings.Builder{}
		}
		if said[current].Len() < 1<<14 {
			fmt.Fprintln(said[current], line)
		}
	}
	for name, r := range results {
		r.output = said[name].String()
		results[name] = r
	}
	return results, all.String()
}
