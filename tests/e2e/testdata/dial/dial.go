// Command dial connects to a unix socket and says by its exit code how it was
// received: 0 let in, 1 no such way, 2 turned away.
//
// What does not belong here: what a test wants to see of these.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	c, err := net.Dial("unix", os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// One who is let in may be silent as long as he likes: the server waits.
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		panic(err)
	}
	_, err = c.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		fmt.Println(err)
		os.Exit(2)
	}
}
