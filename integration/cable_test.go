//go:build linux

package integration

import (
	"net"
	"sync"
	"testing"
)

// cable is the way from a node to Redis. A test may cut it, mend it, and lead it
// to another server.
type cable struct {
	addr string

	mu    sync.Mutex
	to    string
	isCut bool
	ends  map[net.Conn]struct{}
}

// newCable returns a cable to an address, which is there until the test ends.
func newCable(t testing.TB, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{addr: l.Addr().String(), to: to, ends: map[net.Conn]struct{}{}}
	t.Cleanup(func() {
		l.Close()
		c.hangUp()
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go c.join(client)
		}
	}()
	return c
}

// url is the address for a node's settings.
func (c *cable) url() string { return "redis://" + c.addr }

// join connects a client with the server. While the cable is cut, the client
// waits for an answer that does not come.
func (c *cable) join(client net.Conn) {
	c.mu.Lock()
	c.ends[client] = struct{}{}
	to, isCut := c.to, c.isCut
	c.mu.Unlock()
	if isCut {
		return
	}
	server, err := net.Dial("tcp", to)
	if err != nil {
		c.close(client)
		return
	}
	c.mu.Lock()
	c.ends[server] = struct{}{}
	c.mu.Unlock()
	go c.carry(server, client)
	c.carry(client, server)
}

// carry brings what one end says to the other, and loses it while the cable is
// cut.
func (c *cable) carry(to, from net.Conn) {
	defer c.close(to, from)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		c.mu.Lock()
		isCut := c.isCut
		c.mu.Unlock()
		if isCut {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (c *cable) close(ends ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, end := range ends {
		end.Close()
		delete(c.ends, end)
	}
}

// cut loses everything from now on, with all connections open.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
}

// mend ends the connections that lost something, and lets new ones through.
func (c *cable) mend() {
	c.hangUp()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = false
}

// lead brings all connections to another server.
func (c *cable) lead(to string) {
	c.mu.Lock()
	c.to = to
	c.mu.Unlock()
	c.hangUp()
}

func (c *cable) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for end := range c.ends {
		end.Close()
		delete(c.ends, end)
	}
}
