package front

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"drover/exchange"

	"golang.org/x/net/http2"
)

// TestH2WebSocket opens a tunnel by RFC 8441 and uses it both ways.
func TestH2WebSocket(t *testing.T) {
	timedOut := make(chan error, 1)
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		q := &ex.Request
		if q.Upgrade != "websocket" || string(q.Method) != "GET" || len(q.Header.Get("Sec-WebSocket-Key")) != 24 {
			t.Errorf("got %q, upgrade %q, key %q", q.Method, q.Upgrade, q.Header.Get("Sec-WebSocket-Key"))
		}
		r := &exchange.Response{Status: 101, ContentLength: exchange.NoBody}
		r.Header.Add("Upgrade", "websocket")
		r.Header.Add("Sec-WebSocket-Accept", "x")
		r.Header.Add("Sec-WebSocket-Protocol", "chat")
		if err := ex.Client.Start(r); err != nil {
			t.Error(err)
		}
		tunnel, err := ex.Client.Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if err := tunnel.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Error(err)
		}
		_, err = tunnel.Read(make([]byte, 1))
		timedOut <- err
		_ = tunnel.SetReadDeadline(time.Time{}) // never fails
		_, _ = io.Copy(tunnel, tunnel)          // the test sees what came.
		if err := tunnel.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	p := tf.dialH2(t)
	p.open(1, false, ":method: CONNECT", ":protocol: websocket", ":scheme: http", ":authority: a.test", ":path: /chat")
	p.expect("HEADERS :status: 200 | sec-websocket-protocol: chat")
	if err := <-timedOut; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v from a read with a deadline", err)
	}
	for _, word := range []string{"hello", "again"} {
		p.must(p.WriteData(1, false, []byte(word)))
		p.expect("DATA " + word)
	}
	p.must(p.WriteData(1, true, nil))
	p.expect("DATA END ")

	// The settings offer it (RFC 8441, section 3).
	p = tf.dialH2(t)
	for {
		f, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			if v, _ := s.Value(http2.SettingEnableConnectProtocol); v != 1 {
				t.Errorf("got %d; want 1", v)
			}
			return
		}
	}
}

// TestH2TunnelWriteDeadline: a deadline ends a write that waits already for the client,
// which says how far it got, and another deadline lets the next one go on.
func TestH2TunnelWriteDeadline(t *testing.T) {
	inBubble(t, nil, func(ex *exchange.Exchange) {
		if err := ex.Client.Start(&exchange.Response{Status: 101, ContentLength: exchange.NoBody}); err != nil {
			t.Error(err)
		}
		tunnel, err := ex.Client.Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		for _, c := range []struct {
			deadline func(time.Time) error
			text     string
			sent     int
		}{
			{tunnel.SetWriteDeadline, "hello", 4},
			{tunnel.SetDeadline, "o", 0},
		} {
			began := time.Now()
			_ = tunnel.SetDeadline(time.Time{}) // never fails
			time.AfterFunc(time.Second, func() { _ = c.deadline(began.Add(2 * time.Second)) })
			n, err := tunnel.Write([]byte(c.text))
			if took := time.Since(began); n != c.sent || !errors.Is(err, os.ErrDeadlineExceeded) || took != 2*time.Second {
				t.Errorf("%q: got %d, %v after %v; want %d and a deadline after 2s", c.text, n, err, took, c.sent)
			}
		}
		if err := tunnel.SetDeadline(time.Time{}); err != nil {
			t.Error(err)
		}
		if n, err := tunnel.Write([]byte("o again")); n != 7 || err != nil {
			t.Errorf("with no deadline any more: got %d, %v", n, err)
		}
	}, func(t *testing.T, _ *testFront, l *pipes) {
		p := l.dialH2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4})
		began := time.Now()
		p.open(1, false, ":method: CONNECT", ":protocol: websocket", ":scheme: http", ":authority: a.test", ":path: /chat")
		p.expect("HEADERS :status: 200", "DATA hell")
		time.Sleep(10*time.Second - time.Since(began))
		p.must(p.WriteWindowUpdate(1, 7))
		p.expect("DATA o again", "RST CANCEL")
	})
}

// TestH2TunnelDeadlines: they are a net.Conn's. What was written before one is counted,
// one that is moved holds for what waits, and the tunnel goes on with the next.
func TestH2TunnelDeadlines(t *testing.T) {
	tunnels := make(chan net.Conn)
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		if err := ex.Client.Start(&exchange.Response{Status: 101, ContentLength: exchange.NoBody}); err != nil {
			t.Error(err)
		}
		tunnel, err := ex.Client.Hijack()
		if err != nil {
			t.Error(err)
		}
		tunnels <- tunnel
		<-tunnels // until the test has done with it
	})
	p := tf.dialH2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
	ask := []string{":method: CONNECT", ":protocol: websocket", ":scheme: http", ":authority: a.test", ":path: /"}
	p.open(1, false, ask...)
	p.expect("HEADERS :status: 200")
	tunnel := <-tunnels
	defer close(tunnels)
	write := func(text string, want int) {
		t.Helper()
		n, err := tunnel.Write([]byte(text))
		if late := errors.Is(err, os.ErrDeadlineExceeded); n != want || late != (n < len(text)) || !late && err != nil {
			t.Errorf("%q: wrote %d, %v; want %d and that the time is over for the rest", text, n, err, want)
		}
	}
	_ = tunnel.SetWriteDeadline(time.Now().Add(short)) // never fails
	write("abcde", 3)
	p.expect("DATA abc")
	write("de", 0)
	p.must(p.WriteWindowUpdate(1, 2))
	_ = tunnel.SetWriteDeadline(time.Now().Add(time.Hour))
	blocked := make(chan struct{})
	go func() {
		defer close(blocked)
		write("defg", 2)
	}()
	p.expect("DATA de") // the rest waits
	_ = tunnel.SetWriteDeadline(time.Unix(1, 0))
	select {
	case <-blocked:
	case <-time.After(patience):
		t.Fatal("the write still waits after its deadline")
	}
	p.must(p.WriteWindowUpdate(1, 2))
	_ = tunnel.SetWriteDeadline(time.Time{})
	write("fg", 2)
	p.expect("DATA fg")
	p.must(p.WriteWindowUpdate(1, 2))
	_ = tunnel.SetWriteDeadline(time.Unix(1, 0))
	write("hi", 0)

	p.must(p.WriteData(1, false, []byte("hi")))
	_ = tunnel.SetReadDeadline(time.Now().Add(patience))
	if n, err := tunnel.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d, %v; want what the client says", n, err)
	}
	_ = tunnel.SetReadDeadline(time.Unix(1, 0))
	if n, err := tunnel.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v; want that the time is over", n, err)
	}
	// What was cut short is no clean end.
	p.must(p.WriteData(1, true, nil))
	_ = tunnel.SetReadDeadline(time.Time{})
	if rest, err := io.ReadAll(tunnel); string(rest) != "i" || err != nil {
		t.Errorf("read %q, %v; want the rest of what the client said", rest, err)
	}
	tunnels <- nil
	p.expect("RST CANCEL")

	p.open(3, false, ask...)
	p.expect("HEADERS :status: 200")
	tunnel = <-tunnels
	_ = tunnel.SetWriteDeadline(time.Unix(1, 0))
	if err := tunnel.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Errorf("the end, which is no write: %v", err)
	}
	p.expect("DATA END ")
}
