package regress

import (
	"io"
	"net"
	"strings"
	"testing"
)

// TestSlowClients: those that stall are closed, and leave the others alone.
func TestSlowClients(t *testing.T) {
	o := startOrigin(t, nil)
	yaml := strings.Replace(toOrigin(o.address, ""), "address: WEB", "address: WEB, header_timeout: 500ms, body_idle_timeout: 500ms, keep_alive_timeout: 500ms", 1)
	d := start(t, yaml, "")
	var stalled []net.Conn
	for _, text := range []string{"", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\nX", post("Content-Length: 9\r\n", "half"), post("Transfer-Encoding: chunked\r\n", "5\r\nhel"), "PRI * HTTP/2.0\r\n"} {
		c := dial(t, d.web)
		_, _ = io.WriteString(c, text)
		stalled = append(stalled, c)
	}
	serves(t, d)
	for i, c := range stalled {
		if _, err := io.ReadAll(c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("stalled client %d was not closed within 30s", i)
		}
	}
}

// TestDescriptorsUsedUp: accepting goes on once descriptors are free again.
func TestDescriptorsUsedUp(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, ""), `ulimit -n 40; exec "$@"`)
	var held []net.Conn
	for range 80 {
		held = append(held, dial(t, d.web)) // the kernel's backlog takes those that drover cannot
	}
	eventually(t, "descriptors used up", func() bool { return strings.Contains(d.log.String(), "too many open files") })
	for _, c := range held {
		_ = c.Close()
	}
	eventually(t, "a request is answered again", func() bool {
		return strings.HasPrefix(exchange(t, d.web, "GET /alive HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "HTTP/1.1 200")
	})
}
