// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"net"
	"strings"
)

func init() {
	add(map[string]question{"device": {"rtnetlink(7) from inside", device}})
}

// device tells whether a network device is up, and its addresses of global scope.
func device(a []string) (string, error) {
	d, err := net.InterfaceByName(a[0])
	if err != nil {
		return "", err
	}
	out := []string{"down"}
	if d.Flags&net.FlagUp != 0 {
		out[0] = "up"
	}
	addresses, err := d.Addrs()
	for _, x := range addresses {
		if n, ok := x.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			out = append(out, n.String())
		}
	}
	return strings.Join(out, " "), err
}
