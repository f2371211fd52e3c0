package front

import (
	"errors"
	"io"
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
