package front

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"drover/exchange"

	proxyproto "github.com/pires/go-proxyproto"
)

// remoteOf answers with whom an exchange is from.
func remoteOf(ex *exchange.Exchange) { respond(ex, ex.Remote.String()) }

func trusting(networks ...string) func(*Config) {
	return func(c *Config) { c.ProxyProtocol = &ProxyProtocolConfig{Trusted: networks} }
}

// version2 is a header of version 2 with something unknown behind the addresses.
func version2(t *testing.T, client string) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client)))
	if err := h.SetTLVs([]proxyproto.TLV{{Type: 0xee, Value: []byte(strings.Repeat("x", 500))}}); err != nil {
		t.Fatal(err)
	}
	text, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const local2 = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

func TestProxyHeader(t *testing.T) {
	tf := serveTest(t, trusting("127.0.0.0/8"), remoteOf)
	for _, tc := range []struct{ header, want string }{
		{"PROXY TCP4 192.0.2.1 198.51.100.1 1234 80\r\n", "192.0.2.1:1234"},
		{"PROXY TCP6 2001:db8::1 2001:db8::2 1234 80\r\n", "[2001:db8::1]:1234"},
		{"PROXY UNKNOWN\r\n", ""},
		{"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", ""},
		{version2(t, "192.0.2.1:1234"), "192.0.2.1:1234"},
		{version2(t, "[2001:db8::1]:1234"), "[2001:db8::1]:1234"},
		{local2, ""},
	} {
		for _, piece := range []int{1, 7, 1000} {
			c := tf.dial(t)
			want := tc.want
			if want == "" {
				want = c.LocalAddr().String()
			}
			text := tc.header + get11
			for len(text) > 0 {
				n := min(piece, len(text))
				c.send(text[:n])
				text = text[n:]
			}
			for range 2 {
				if got := c.exactly(contentLength(t, c.head())); got != want {
					t.Errorf("%q in pieces of %d: got client %s; want %s", tc.header, piece, got, want)
				}
				c.send(get11)
			}
			_ = c.Close()
		}
	}
}

func TestProxyHeaderRefused(t *testing.T) {
	tf := serveTest(t, func(c *Config) { trusting("127.0.0.1")(c); c.HeaderTimeout = 100 * time.Millisecond }, remoteOf)
	want := 0
	for _, text := range []string{
		get11,
		"PROXY TCP4 192.0.2.1 198.51.100.1 1234 80\n" + get11,
		"PROXY TCP4 192.0.2.1 198.51.100.1 1234\r\n" + get11,
		"PROXY TCP4 a b 1 2\r\n" + get11,
		"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n" + get11,
		"PROXY TCP4 192.0.2.1 198.51.100.1 1234 80 " + strings.Repeat("x", 100) + "\r\n" + get11,
		"PROXYTCP4",
		"PROXY TCP4 192.0.2.1", // and then nothing
		local2[:14],
		local2[:12] + "\x21\x11\x00\x01x" + get11,                            // a block too short
		local2[:12] + "\x31\x11\x00\x0c" + get11,                             // version 3
		local2[:12] + "\x21\x11\xff\xff" + get11,                             // a block of 64 KiB
		local2[:12] + "\x21\x31\x00\xd8" + strings.Repeat("x", 0xd8) + get11, // a path
	} {
		if got := tf.dial(t).send(text).untilClosed(); got != "" {
			t.Errorf("%.60q: got %q", text, got)
		}
		want++
		tf.waitOpen(t, 0)
	}
	// Who only looks whether somebody is there is no fault.
	if got := tf.dial(t).closeWrite().untilClosed(); got != "" {
		t.Errorf("got %q", got)
	}
	tf.waitOpen(t, 0)
	if got, all := tf.rejected(), strings.TrimPrefix(strings.Repeat(", 400 PH", want), ", "); got != all {
		t.Errorf("told of %q; want %q", got, all)
	}
}

// untilClosed reads until the connection ends, in whatever way.
func (c *testConn) untilClosed() string {
	got, _ := io.ReadAll(c.r)
	return string(got)
}

// TestProxyHeaderOfStrangers: nobody else is believed.
func TestProxyHeaderOfStrangers(t *testing.T) {
	tf := serveTest(t, trusting("192.0.2.0/24"), remoteOf)
	if got := tf.dial(t).send("PROXY TCP4 192.0.2.1 198.51.100.1 1234 80\r\n" + get11).head(); !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("got %q; want 400", got)
	}
	c := tf.dial(t).send(get11)
	if got, want := c.exactly(contentLength(t, c.head())), c.LocalAddr().String(); got != want {
		t.Errorf("got client %s; want %s", got, want)
	}
}

// TestProxyHeaderBeforeTLS: HTTP/1.1 and HTTP/2, in clear text and over TLS.
func TestProxyHeaderBeforeTLS(t *testing.T) {
	for _, secure := range []bool{false, true} {
		tf := serveTest(t, func(c *Config) {
			trusting("127.0.0.1")(c)
			if secure {
				withTLS("1.2", writeCert(t, "a.test"))(c)
			}
		}, remoteOf)
		for _, major := range []int{1, 2} {
			transport := &http.Transport{
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: &http.Protocols{},
				Dial: func(network, address string) (net.Conn, error) {
					nc, err := net.Dial(network, address)
					if err == nil {
						_, err = io.WriteString(nc, version2(t, "192.0.2.9:99"))
					}
					return nc, err
				},
			}
			transport.Protocols.SetHTTP1(major == 1)
			transport.Protocols.SetHTTP2(major == 2)
			transport.Protocols.SetUnencryptedHTTP2(major == 2)
			scheme := map[bool]string{false: "http", true: "https"}[secure]
			resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(scheme + "://" + tf.addr)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			transport.CloseIdleConnections()
			if err != nil || string(body) != "192.0.2.9:99" || resp.ProtoMajor != major {
				t.Errorf("%s, HTTP/%d: got %q by HTTP/%d, %v", scheme, major, body, resp.ProtoMajor, err)
			}
		}
	}
}

// TestProxyHeaderLimits: the limit per client is about the clients, not the sender.
func TestProxyHeaderLimits(t *testing.T) {
	tf := serveTest(t, func(c *Config) { trusting("127.0.0.1")(c); c.MaxConnectionsPerClient = 1 }, remoteOf)
	from := func(client int) *testConn {
		return tf.dial(t).send(fmt.Sprintf("PROXY TCP4 192.0.2.%d 198.51.100.1 1234 80\r\n", client) + get11)
	}
	one, two := from(1), from(2)
	one.head()
	two.head()
	if got := from(1).untilClosed(); got != "" {
		t.Errorf("a client's second connection got %q", got)
	}
	_ = one.Close()
	tf.waitOpen(t, 1)
	from(1).head()
	// Who names itself is not counted twice.
	if got := tf.dial(t).send("PROXY TCP4 127.0.0.1 127.0.0.1 1 80\r\n" + get11).head(); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("a sender that names itself got %q", got)
	}
}

// TestProxyHeaderReload: a change holds for new connections, and is not felt by others.
func TestProxyHeaderReload(t *testing.T) {
	tf := serveTest(t, nil, remoteOf)
	before := tf.dial(t).send(get11)
	before.exactly(contentLength(t, before.head()))
	cfg := tf.cfg
	trusting("127.0.0.1")(&cfg)
	tf.Update(cfg)
	if got := before.send(get11).head(); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("an older connection got %q", got)
	}
	c := tf.dial(t).send("PROXY TCP4 192.0.2.1 198.51.100.1 1234 80\r\n" + get11)
	if got := c.exactly(contentLength(t, c.head())); got != "192.0.2.1:1234" {
		t.Errorf("a new connection is from %s", got)
	}
}

// FuzzProxyHeader: what is taken is taken in any pieces, whole, and names an address or
// nobody.
func FuzzProxyHeader(f *testing.F) {
	for _, text := range []string{"PROXY TCP4 192.0.2.1 198.51.100.1 1234 80\r\nGET", "PROXY UNKNOWN\r\n", local2, local2[:12] + "\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		size, err := proxyHeaderSize(text)
		for n := range text {
			part, partErr := proxyHeaderSize(text[:n])
			if part != 0 && (part != size || err != nil) {
				t.Fatalf("%q: size %d, %v; of its first %d bytes %d", text, size, err, n, part)
			}
			if partErr != nil && err == nil && len(text) > n {
				t.Fatalf("%q: its first %d bytes are refused, not the whole", text, n)
			}
		}
		if err != nil || size == 0 || size > len(text) {
			return
		}
		if size > proxyStart+maxProxyBlock {
			t.Fatalf("%q: size %d", text, size)
		}
		client, err := parseProxyHeader(text[:size])
		if err != nil {
			return
		}
		if again, err := parseProxyHeader(bytes.Clone(text[:size])); err != nil || again != client {
			t.Fatalf("%q: got %v, then %v", text, client, again)
		}
	})
}
