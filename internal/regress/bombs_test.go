package regress

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestBombs: drover decompresses nothing, and asks for no range that it was not asked
// for.
func TestBombs(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 64 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	_ = z.Close()
	o := startOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(bomb.Bytes())
	})
	d := start(t, toOrigin(o.address, "[{ upstream: u, compress: {} }]"), "")
	got := exchange(t, d.web, fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept-Encoding: br\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", bomb.Len(), bomb.String()))
	if len(got) > bomb.Len()+1000 || !strings.Contains(got, bomb.String()[:100]) {
		t.Errorf("got %d bytes for %d; want the bomb as it is", len(got), bomb.Len())
	}
	if seen := o.requests(); len(seen) != 1 || len(seen[0]) > bomb.Len()+100 {
		t.Errorf("the server got %d requests; want one, with the bomb as it is", len(seen))
	}
}

// TestRangeAmplification: many ranges pass as they came, as one request.
func TestRangeAmplification(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, ""), "")
	ranges := "bytes=0-" + strings.Repeat(",0-", 500)
	exchange(t, d.web, "GET / HTTP/1.1\r\nHost: a\r\nRange: "+ranges+"\r\nConnection: close\r\n\r\n")
	if len(o.headers) != 1 || o.headers[0].Get("Range") != ranges {
		t.Errorf("the server got %v; want the ranges as they came, once", o.headers)
	}
}
