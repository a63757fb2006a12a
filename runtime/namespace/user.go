// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"cmp"
	"fmt"
	"slices"

	"sysbox/runtime/plan"
	"sysbox/uidmap"
)

// JoinsUser tells whether the container joins a user namespace of its caller.
func JoinsUser(p *plan.Plan) bool {
	user := p.Namespaces.User
	return user.Mode == plan.NamespaceJoin && user.Path != ""
}

// CheckJoined compares the mappings by which files are given to a container with those of
// the user namespace that it joins, and which proc, the directory of init in /proc, is in.
func CheckJoined(p *plan.Plan, proc string, allowHostRoot bool) error {
	if !JoinsUser(p) {
		return nil
	}
	uid, gid, err := uidmap.ReadMaps(proc + "/ns/user")
	if err != nil {
		return err
	}
	return CompareMaps(p, uid, gid, allowHostRoot)
}

// CompareMaps refuses the maps of a user namespace that the plan joins, unless they are the
// plan's, and the host's root unless that is allowed.
func CompareMaps(p *plan.Plan, uid, gid uidmap.Map, allowHostRoot bool) error {
	user := p.Namespaces.User
	for _, m := range []struct {
		field         string
		theirs, given uidmap.Map
	}{{"linux.uidMappings", uid, p.IDs.UID}, {"linux.gidMappings", gid, p.IDs.GID}} {
		slices.SortFunc(m.theirs, func(a, b uidmap.Mapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
		if plan.MapsHostRoot(m.theirs) && !allowHostRoot {
			return fmt.Errorf("linux.namespaces: the user namespace %s maps the host's root; %s", user.Path, plan.HostRootHint)
		}
		if !slices.Equal(m.theirs, m.given) {
			return fmt.Errorf("%s: it is %v, and the user namespace %s has %v; give the same", m.field, m.given, user.Path, m.theirs)
		}
	}
	return nil
}
