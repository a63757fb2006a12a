// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// stores are Docker's ways to store images, as lines of its configuration.
var stores = map[string]string{
	"containerd's snapshotter": `"features": {"containerd-snapshotter": true}`,
	"overlay2":                 `"features": {"containerd-snapshotter": false}, "storage-driver": "overlay2"`,
}

// TestDockerCopies copies files into and out of containers that run, in folders that they
// have from their image and have looked at, with both of Docker's ways to store images.
func TestDockerCopies(t *testing.T) {
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			e := dockerd(t, on(t, peers.Newest), "{"+store+"}", harness.Runtime)
			docker(t, e, copies)
			machine, err := images.Debian()
			if err != nil {
				t.Fatal(err)
			}
			if out, err := e.sh(t, "docker load -q -i "+machine); err != nil {
				t.Fatalf("docker load: %v\n%s", err, out)
			}
			docker(t, e, machineCopies)
		})
	}
}

// looked starts a container cc that has looked into some folders of its image, at what is
// there and at what is not.
const looked = "docker run -d --name cc --runtime $R busybox:test sleep 1000 >/dev/null && docker exec cc sh -c 'ls -laR /root /bin /tmp /etc; cat /root/f /bin/f /f' >/dev/null 2>&1; "

var copies = []row{
	{name: "a file, a folder", script: looked + "mkdir -p $D/d/e && echo one >$D/d/f && echo two >$D/d/e/f && for d in /root /bin /tmp /etc /; do docker cp -q $D/d/f cc:$d/ && docker cp -q $D/d cc:$d/ && " +
		"docker exec cc sh -c \"cd $d && cat f d/f d/e/f && touch x d/x d/e/x && rm x d/x && mv f g && mkdir y && stat -c %u:%g g d d/f y\" || exit 1; done | sort | uniq -c | tr -s ' ' | sed 's/^ //'", want: "20 0:0\n10 one\n5 two"},
	{name: "into a working directory", script: "docker exec -d -w /root cc sh -c 'sleep 2; cat late >seen; touch new && echo made >>seen'; echo late >$D/late && docker cp -q $D/late cc:/root/ && for i in 1 2 3 4 5 6 7 8 9; do sleep 1; docker exec cc grep -q made /root/seen && break; done; docker exec cc cat /root/seen", want: "late\nmade"},
	{name: "over a file that is open", script: "docker exec cc sh -c 'echo old >/root/log; cp /bin/sh /bin/tool' && docker exec -d cc sh -c 'exec 3>>/root/log; exec sleep 999' && docker exec -d cc sh -c 'exec 3</etc/group; exec sleep 999' && echo new >$D/log && docker cp -q $D/log cc:/root/log && docker cp -q $D/log cc:/etc/group && docker exec cc sh -c 'cat /root/log /etc/group; echo more >>/root/log; cat /root/log'", want: "new\nnew\nnew\nmore"},
	{name: "out, after the container has replaced it", script: "for i in 1 2 3; do docker exec cc sh -c \"echo $i >/root/n && mv /root/n /root/r\" && docker cp -q cc:/root/r $D/r && cat $D/r; done; docker exec cc rm /root/r; docker cp cc:/root/r $D/r 2>&1 | grep -o 'Could not find'", want: "1\n2\n3\nCould not find"},
	{name: "ids, modes, times, links, special files", script: "docker exec cc sh -c 'mkdir /tmp/s && cd /tmp/s && echo f >f && chown 5:6 f && chmod 4751 f && ln f hard && ln -s /etc/passwd sym && mkfifo -m 600 p && touch -d \"2001-02-03 04:05:06\" f p && chown -h 7:8 sym' && " +
		"docker cp -q cc:/tmp/s - >$D/s.tar && docker cp -q - cc:/bin <$D/s.tar && docker exec cc sh -c 'cd /bin/s && stat -c \"%n %u:%g %a %h %F %Y\" f p && stat -c %u:%g sym && readlink sym && ls'", want: "f 5:6 4751 2 regular file 981173106\np 0:0 600 1 fifo 981173106\n7:8\n/etc/passwd\nf\nhard\np\nsym"},
	{name: "much", script: "head -c 50000000 /dev/urandom >$D/much && docker cp -q $D/much cc:/bin/much && docker cp -q cc:/bin/much $D/back && cmp $D/much $D/back && [ \"$(docker exec cc md5sum </dev/null /bin/much | cut -d' ' -f1)\" = \"$(md5sum $D/much | cut -d' ' -f1)\" ] && rm $D/much $D/back && echo same", want: "same"},
	{name: "while it is paused", script: "docker pause cc >/dev/null && docker cp -q $D/late cc:/bin/paused && docker cp -q cc:/bin/paused - | tar tf - && docker unpause cc >/dev/null && docker exec cc cat /bin/paused", want: "paused\nlate"},
	{name: "export, exec by a name", script: "docker export cc | tar tf - | grep -E '^(bin/paused|root/late)$' && docker exec cc sh -c 'mv /etc/passwd /etc/old; echo me:x:7:8::/: >/etc/passwd' && docker exec -u me cc id -u", want: "root/late\n7"},
	{name: "stop, cp, start", script: "docker stop -t 0 cc >/dev/null && echo stopped >$D/st && docker cp -q $D/st cc:/root/st && docker start cc >/dev/null && docker exec cc sh -c 'cat /root/st /root/late /bin/paused; touch /root/again' && docker cp -q $D/st cc:/bin && docker exec cc cat /bin/st", want: "stopped\nlate\nlate\nstopped"},
	{name: "diff, commit, rm", script: "docker diff cc | grep -E '^. /root/(st|again)$' | sort && docker commit cc copied >/dev/null && docker rm -f cc >/dev/null && $RUN copied sh -c 'cat /root/st; touch /root/x && echo made' && docker rmi copied >/dev/null; grep -cE 'fuse.sysbox|/work/work ' /proc/self/mountinfo", status: 1, want: "A /root/again\nA /root/st\nstopped\nmade\n0"},
	{name: "after the shim's death", script: "docker run -d --name cc --runtime $R busybox:test sleep 1000 >/dev/null && docker cp -q $D/late cc:/root/ && kill -9 $(awk '/^PPid/ {print $2}' /proc/$(docker inspect -f '{{.State.Pid}}' cc)/status) && docker wait cc && " +
		"grep -cE 'fuse.sysbox|/work/work ' /proc/self/mountinfo; docker cp -q $D/late cc:/root/f && docker start cc >/dev/null && docker cp -q $D/late cc:/root/g && docker exec cc sh -c 'cd /root && cat late f g' && docker rm -f cc >/dev/null; ls $D/data/overlay2/*/merged $D/data/rootfs/*/* 2>/dev/null | wc -l", want: "137\n0\nlate\nlate\nlate\n0"},
	{name: "a read-only root", script: "docker run -d --name cc --read-only --runtime $R busybox:test sleep 1000 >/dev/null && docker cp -q cc:/etc/group $D/group && docker cp $D/late cc:/bin/ 2>&1 | grep -o 'marked read-only'; docker rm -f cc >/dev/null", want: "marked read-only"},
	{name: "a volume", script: "docker run -d --name cc -v vol:/v -v $D/d:/root/d:ro --runtime $R busybox:test sleep 1000 >/dev/null && docker cp -q $D/late cc:/v/ && docker exec cc cat /v/late && docker cp -q cc:/root/d/f - | tar xOf - && docker rm -f cc >/dev/null && docker volume rm vol >/dev/null", want: "late\none"},
}

// folders are those of the image that a machine has looked at.
const folders = "/srv /usr/local/bin /usr/bin /home /root /etc/systemd/system /opt"

var machineCopies = []row{
	{name: "a machine boots", script: "docker run -d --name mm --stop-signal RTMIN+3 --runtime $R " + images.DebianName + " >/dev/null && for i in $(seq 90); do docker exec mm systemctl is-system-running 2>/dev/null | grep -E 'running|degraded' && break; sleep 1; done", want: "running"},
	{name: "into its folders", script: "docker exec mm sh -c 'ls -la " + folders + "' >/dev/null && for d in " + folders + "; do docker cp -q $D/late mm:$d/f1 && docker cp -q $D/d mm:$d/ && docker exec mm sh -c \"cd $d && cat f1 d/e/f && touch x d/x && mkdir y && rm x\" || echo not $d; done | sort | uniq -c | tr -s ' ' | sed 's/^ //'", want: "7 late\n7 two"},
	{name: "over its files", script: "docker exec mm sh -c 'cp /usr/bin/id /usr/local/bin/id2; id2 >/dev/null' && echo 'echo replaced' >$D/id2 && chmod 755 $D/id2 && docker cp -q $D/id2 mm:/usr/local/bin/id2 && docker cp -q $D/id2 mm:/usr/bin/whoami && docker exec mm sh -c 'sh /usr/local/bin/id2; sh /usr/bin/whoami'", want: "replaced\nreplaced"},
	{name: "stop, start", script: "docker stop mm >/dev/null && docker start mm >/dev/null && for i in $(seq 90); do docker exec mm systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded' && break; sleep 1; done; for d in " + folders + "; do docker exec mm sh -c \"cd $d && cat f1 d/e/f && touch z\" && docker cp -q mm:$d/z - | tar tf - || echo not $d; done | sort | uniq -c | tr -s ' ' | sed 's/^ //'", want: "7 late\n7 two\n7 z"},
	{name: "commit", script: "docker stop mm >/dev/null; docker commit mm machine >/dev/null && docker rm -f mm >/dev/null && $RUN --entrypoint /bin/sh machine -c 'cat /srv/f1 /usr/bin/f1 /opt/d/e/f' && docker rmi machine >/dev/null", want: "late\nlate\ntwo"},
}

// TestDockerCopiesAfterRestart restarts dockerd beside a container that goes on. With
// overlay2 it takes the container's root for not mounted and mounts its own again: what it
// cannot do right then it must not do.
func TestDockerCopiesAfterRestart(t *testing.T) {
	for name, want := range map[string]string{
		"containerd's snapshotter": "copied",
		"overlay2":                 "read-only file system",
	} {
		t.Run(name, func(t *testing.T) {
			h := on(t, peers.Newest)
			e := dockerd(t, h, `{"live-restore": true, `+stores[name]+`}`, harness.Runtime)
			docker := func(script, want string) {
				t.Helper()
				if out, err := e.sh(t, script); err != nil || !strings.HasSuffix(out, want) {
					t.Errorf("%s\n%v; output:\n%s\nwant at its end: %s", script, err, out, want)
				}
			}
			archive, err := images.Busybox()
			if err != nil {
				t.Fatal(err)
			}
			docker("docker load -q -i "+archive, "")
			docker(looked+"echo copied >$D/f && docker cp -q $D/f cc:/root/f && docker exec cc cat /root/f", "copied")
			e.restart(t, h)
			docker("docker cp -q $D/f cc:/bin/f 2>&1 && docker exec cc cat /bin/f || true", want)
			docker("docker exec cc sh -c 'cd /bin && touch x && cd /tmp && touch x && echo made'", "made")
			docker("docker stop -t 0 cc >/dev/null && docker start cc >/dev/null && docker cp -q $D/f cc:/bin/f && docker exec cc sh -c 'cat /root/f /bin/f; touch /bin/y' && docker rm -f cc >/dev/null", "copied\ncopied")
			docker("grep -E 'fuse.sysbox|/work/work ' /proc/self/mountinfo || true", "")
		})
	}
}
