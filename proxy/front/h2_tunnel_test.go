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
