package regress

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestSecrets plants secrets in all kinds of requests, and looks for them in whatever
// drover says of itself.
func TestSecrets(t *testing.T) {
	const secret = "pLaNtEd"
	o := startOrigin(t, nil)
	yaml := "log: { level: debug }\naccess_log: { format: json }\n" + toOrigin(o.address, "[{ path: /gone, upstream: gone }, { upstream: u, max_body_size: 1KiB }]")
	yaml = strings.Replace(yaml, "upstreams: [", `upstreams: [{ name: gone, servers: [{ address: "`+freeAddress(t)+`" }] }, `, 1)
	d := start(t, yaml, "")
	fields := "Authorization: Bearer eyJ" + secret + "\r\nProxy-Authorization: Basic " + secret + "\r\nCookie: session=" + secret + "\r\nX-Api-Key: " + secret + "\r\n"
	var answers strings.Builder
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields + "\r\n",
		"GET /gone HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields + "\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n" + fields + "Bad Name: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + strings.Repeat(secret, 30_000) + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + secret + "\x00\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: user:" + secret + "@a\r\n\r\n",
		"GET http://user:" + secret + "@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields + "Content-Length: 5000\r\n\r\n" + secret,
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + secret + "\r\n\r\n",
	} {
		c := dial(t, d.web)
		_, _ = io.WriteString(c, text)
		got, _ := io.ReadAll(c)
		answers.Write(got)
	}
	for _, path := range []string{"/metrics", "/status"} {
		resp, err := http.Get("http://" + d.admin + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		answers.Write(body)
	}
	eventually(t, "the access log", func() bool { return strings.Contains(d.log.String(), "/gone") })
	for name, text := range map[string]string{"answers": answers.String(), "logs": d.log.String()} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("%s tell a secret: %q", name, text[max(0, i-300):i+20])
		}
	}
}
