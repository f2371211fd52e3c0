package front

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"drover/exchange"

	"golang.org/x/net/http2"
)

// TestH2TightWindows: whatever pieces an answer is written in, and whatever room there is
// for it, its bytes come as they were written.
func TestH2TightWindows(t *testing.T) {
	const size = 40 << 10
	text := make([]byte, size)
	for i := range text {
		text[i] = byte(rand.Uint32())
	}
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		if err := ex.Client.Start(&exchange.Response{Status: 200, ContentLength: size}); err != nil {
			t.Error(err)
		}
		for rest := text; len(rest) > 0; {
			n := min(rand.IntN(40)*rand.IntN(40)*rand.IntN(5)+1, len(rest))
			if rand.IntN(4) == 0 {
				if err := ex.Windows.AwaitRoom(); err != nil || ex.Windows.Room() <= 0 {
					t.Errorf("got %v, and then room for %d", err, ex.Windows.Room())
				}
			}
			if _, err := ex.Client.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
	})
	p := tf.dialH2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	for id := uint32(1); id < 20; id += 2 {
		p.open(id, true, getLines...)
		var got bytes.Buffer
		for open := 100; got.Len() < size; {
			f, err := p.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			data, ok := f.(*http2.DataFrame)
			if !ok || data.StreamID != id {
				continue
			}
			n := len(data.Data())
			got.Write(data.Data())
			if got.Len() == size {
				break
			}
			p.must(p.WriteWindowUpdate(0, uint32(n))) //nolint:gosec // at most 16 KiB.
			if open -= n; open < 50 {
				more := 1 + rand.IntN(3000)
				p.must(p.WriteWindowUpdate(id, uint32(more))) //nolint:gosec // see above.
				open += more
			}
		}
		if !bytes.Equal(got.Bytes(), text) {
			t.Fatalf("stream %d got other bytes than were written", id)
		}
	}
}
