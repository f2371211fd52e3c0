package regress

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestHTTP2Floods: each flood ends within 20,000 frames, and others are served.
func TestHTTP2Floods(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, ""), "")
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	floods := map[string]func(f *http2.Framer, i int) error{
		"rapid reset": func(f *http2.Framer, i int) error {
			id := uint32(2*i + 1)
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
				return err
			}
			return f.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"continuation": func(f *http2.Framer, i int) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()})
			}
			return f.WriteContinuation(1, false, nil)
		},
		"ping":     func(f *http2.Framer, _ int) error { return f.WritePing(false, [8]byte{}) },
		"settings": func(f *http2.Framer, _ int) error { return f.WriteSettings() },
		"empty data": func(f *http2.Framer, i int) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
			}
			return f.WriteData(1, false, nil)
		},
	}
	for name, frame := range floods {
		c := dial(t, d.web)
		_, _ = io.WriteString(c, http2.ClientPreface)
		f := http2.NewFramer(c, c)
		_ = f.WriteSettings()
		ended := make(chan error, 1)
		go func() {
			for {
				if _, err := f.ReadFrame(); err != nil {
					ended <- err
					return
				}
			}
		}()
		var err error
		for i := 0; i < 20_000 && err == nil; i++ {
			err = frame(f, i)
		}
		if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: drover did not end the connection in 20,000 frames and 30s", name)
		}
		serves(t, d)
	}
}
