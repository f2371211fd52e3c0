package front

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"drover/exchange"
)

// h2Client is the standard library's client, for HTTP/2 alone.
func h2Client(t *testing.T, secure bool) *http.Client {
	t.Helper()
	tr := &http.Transport{
		Protocols:       &http.Protocols{},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the test's own certificate.
	}
	tr.Protocols.SetHTTP2(secure)
	tr.Protocols.SetUnencryptedHTTP2(!secure)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestH2ClearText(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		var body []byte
		if ex.Request.Body != nil {
			body, _ = io.ReadAll(ex.Request.Body)
		}
		r := &exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown}
		r.Header.Add("X-Target", string(ex.Request.Target))
		r.Trailer = func() exchange.Header {
			var h exchange.Header
			h.Add("X-After", "all")
			return h
		}
		if err := ex.Client.Start(r); err != nil {
			t.Error(err)
		}
		if _, err := ex.Client.Write(body); err != nil {
			t.Error(err)
		}
	})
	cl := h2Client(t, false)
	for _, n := range []int{0, 1, 100, 1 << 20} {
		resp, err := cl.Post("http://"+tf.addr+"/a//b?x=%2F", "text/plain", strings.NewReader(strings.Repeat("x", n)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || len(got) != n || resp.ProtoMajor != 2 {
			t.Errorf("got %d bytes, HTTP/%d, %v; want %d", len(got), resp.ProtoMajor, err, n)
		}
		if resp.Header.Get("X-Target") != "/a//b?x=%2F" || resp.Trailer.Get("X-After") != "all" {
			t.Errorf("got %v, trailers %v", resp.Header, resp.Trailer)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}
