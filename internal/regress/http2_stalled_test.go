package regress

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// memory gives what drover's heap holds after a collection.
func (d *drover) memory(t *testing.T) int64 {
	t.Helper()
	text := d.told(t, "/debug/pprof/heap?gc=1&debug=1")
	m := regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no HeapAlloc in %.300q", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// head reads up to the head of an answer.
func (c *h2Client) head(t *testing.T) {
	t.Helper()
	for {
		f, err := c.ReadFrame()
		c.must(t, err)
		if _, ok := f.(*http2.HeadersFrame); ok {
			return
		}
	}
}

// TestHTTP2StalledStreams: a hundred large answers that their client leaves no room for
// cost less than 1 MiB, and end within 8 s: one that has no window at all, one that has a
// byte for each stream, and one whose streams share the connection's window. The server
// behind speaks HTTP/1.1 or HTTP/2.
func TestHTTP2StalledStreams(t *testing.T) {
	large := make([]byte, 4<<20)
	o := startOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(large)))
		_, _ = w.Write(large)
	})
	for _, row := range []struct {
		window    uint32
		transport string
	}{{0, "h1"}, {1, "h1"}, {65535, "h1"}, {0, "h2c"}, {1, "h2c"}, {65535, "h2c"}} {
		window := row.window
		t.Run(fmt.Sprint(window, " ", row.transport), func(t *testing.T) {
			t.Parallel() // it mostly waits
			d := start(t, "admin: { address: ADMIN, pprof: true }\n"+
				strings.Replace(toOrigin(o.address, ""), "}] }]", "}], transport: { protocol: "+row.transport+" } }]", 1), "")
			serves(t, d)
			first, _ := dialH2(t, d.web) // what is made once for all is made now.
			first.open(t, 1, true, "/")
			first.head(t)
			before := d.memory(t)
			c, nc := dialH2(t, d.web, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			began := time.Now()
			for i := range uint32(100) {
				c.open(t, 2*i+1, true, "/large")
			}
			for range 100 {
				c.head(t)
			}
			if grown := d.memory(t) - before; grown > 1<<20 {
				t.Errorf("100 streams cost %d bytes; want at most 1 MiB", grown)
			}
			for ended := false; !ended; {
				f, err := c.ReadFrame()
				c.must(t, err)
				var away *http2.GoAwayFrame
				if away, ended = f.(*http2.GoAwayFrame); ended && away.ErrCode != http2.ErrCodeEnhanceYourCalm {
					t.Errorf("got %v; want ENHANCE_YOUR_CALM", away.ErrCode)
				}
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it took %v; want at most 8s", took)
			}
			_ = nc.Close()
			serves(t, d)
		})
	}
}
