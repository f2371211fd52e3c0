package regress

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Client is a client of HTTP/2 that says frame by frame what it is told, and reads
// nothing by itself.
type h2Client struct {
	*http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
}

func dialH2(t *testing.T, address string, settings ...http2.Setting) (*h2Client, *net.TCPConn) {
	t.Helper()
	nc := dial(t, address)
	c := &h2Client{Framer: http2.NewFramer(nc, nc)}
	c.enc = hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c.must(t, c.WriteSettings(settings...))
	return c, nc.(*net.TCPConn)
}

func (c *h2Client) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open sends a request's head, with fields in pairs behind the path.
func (c *h2Client) open(t *testing.T, id uint32, end bool, path string, fields ...string) {
	t.Helper()
	c.block.Reset()
	fields = append([]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", path}, fields...)
	for i := 0; i < len(fields); i += 2 {
		c.must(t, c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	c.must(t, c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: end}))
}

// told gives what drover's admin listener answers for a path.
func (d *drover) told(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + d.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// metric gives the lines of drover's metrics that begin with a name.
func (d *drover) metric(t *testing.T, name string) (lines []string) {
	t.Helper()
	for line := range strings.Lines(d.told(t, "/metrics")) {
		if strings.HasPrefix(line, name) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// TestHTTP2Deadlock: a client makes drover say so much about its connection that it is
// too much to wait for, right where what it may send is counted. Nothing of it may stay.
func TestHTTP2Deadlock(t *testing.T) {
	var written atomic.Int64
	o := startOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 64<<10)
		for r.URL.Path == "/large" {
			n, err := w.Write(block)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	})
	d := start(t, toOrigin(o.address, ""), "")
	c, nc := dialH2(t, d.web, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	c.must(t, c.WriteWindowUpdate(0, 1<<31-1-65535))
	c.open(t, 1, false, "/", "connection", "x") // drover breaks it off, and counts what comes on it.
	c.open(t, 3, true, "/large")
	still := 0
	eventually(t, "no more of the answer fits on its way", func() bool {
		before := written.Load()
		time.Sleep(20 * time.Millisecond)
		if still++; before == 0 || written.Load() > before {
			still = 0
		}
		return still == 20
	})
	// A ping costs 17 bytes of the 16 KiB that may wait for the client, an answer to
	// SETTINGS 9, and each 16th block of data 13 for a WINDOW_UPDATE: it is the last one
	// of those that is too much.
	block := make([]byte, 16384)
	for i := range 57 * 16 {
		c.must(t, c.WritePing(false, [8]byte{}))
		if i == 57*16-1 {
			for range 8 {
				c.must(t, c.WritePing(false, [8]byte{}))
			}
			c.must(t, c.WriteSettings())
		}
		c.must(t, c.WriteData(1, false, block))
	}
	c.must(t, nc.CloseWrite()) // a close would take back what drover has not read.
	eventually(t, "nothing of the client is left", func() bool {
		left := append(d.metric(t, "drover_listener_connections{"), d.metric(t, "drover_server_in_flight{")...)
		for _, line := range left {
			if !strings.HasSuffix(line, " 0") {
				return false
			}
		}
		return len(left) > 0
	})
	serves(t, d)
	c.must(t, d.process.Signal(syscall.SIGTERM))
	eventually(t, "drover has ended", func() bool {
		select {
		case <-d.ended:
			return true
		default:
			return false
		}
	})
}
