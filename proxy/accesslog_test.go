package proxy

import (
	"encoding/json"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"drover/exchange"
)

// logged is what Log leaves to be written.
func logged(cfg AccessLogConfig, ex *exchange.Exchange, status int) string {
	var l AccessLog
	l.Log(cfg, ex, status, 1500*time.Millisecond)
	return string(l.buf)
}

func loggedExchange() *exchange.Exchange {
	ex := requestFor("POST", "a.test", "/x?y=z", "Referer: https://b.test/", "User-Agent: curl/8",
		"Cookie: secret=1", "Authorization: Basic c2VjcmV0")
	ex.Result = exchange.Result{
		Status: 502, Reason: exchange.ReasonBodyCut, User: "ann b", Route: "r", Upstream: "u", Server: "http://10.0.0.1:8080",
		ServerStatus: 200, Attempts: 2, Received: 11, Sent: 22, HeaderTime: 250 * time.Microsecond,
	}
	return ex
}

// combinedLine takes a line apart that nobody has forged.
var combinedLine = regexp.MustCompile(
	`^(\S+) - \S+ \[([^]]+)\] "((?:[^"\\]|\\x[0-9A-F]{2})*)" (\d{3}) (\d+) "((?:[^"\\]|\\x[0-9A-F]{2})*)" "((?:[^"\\]|\\x[0-9A-F]{2})*)"` +
		` (\S+) (\S+) (\S+) (\S+) (\d+) (\d+) (\d+\.\d{6}) (\d+\.\d{6}) (\S+)\n$`)

func TestAccessLogCombined(t *testing.T) {
	at := loggedExchange().Start.Add(1500 * time.Millisecond).Format("02/Jan/2006:15:04:05 -0700")
	bare := requestFor("GET", "a.test", "/")
	bare.Remote = netip.MustParseAddrPort("[::ffff:192.0.2.9]:1")
	bare.Request.ProtoMinor, bare.Listener = 0, ""
	for _, tc := range []struct {
		ex     *exchange.Exchange
		status int
		want   string
	}{
		{loggedExchange(), 502, `192.0.2.7 - ann\x20b [` + at + `] "POST /x?y=z HTTP/1.1" 502 22 "https://b.test/" "curl/8"` +
			" web r u http://10.0.0.1:8080 200 2 0.000250 1.500000 UB\n"},
		{bare, 200, `192.0.2.9 - - [` + at + `] "GET / HTTP/1.0" 200 0 "-" "-" - - - - 0 0 0.000000 1.500000 -` + "\n"},
	} {
		got := logged(AccessLogConfig{Format: "combined", Sample: 1}, tc.ex, tc.status)
		if got != tc.want {
			t.Errorf("got\n%swant\n%s", got, tc.want)
		}
		if !combinedLine.MatchString(got) {
			t.Errorf("%q does not fit the pattern", got)
		}
	}
}

func TestAccessLogJSON(t *testing.T) {
	got := logged(AccessLogConfig{Format: "json", Sample: 1}, loggedExchange(), 502)
	var fields map[string]any
	if err := json.Unmarshal([]byte(got), &fields); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	want := map[string]any{
		"time": "2023-11-14T22:13:21.500012Z", "client": "192.0.2.7", "user": "ann b", "listener": "web", "method": "POST",
		"host": "a.test", "target": "/x?y=z", "status": 502.0, "received": 11.0, "sent": 22.0, "duration": 1.5,
		"route": "r", "upstream": "u", "server": "http://10.0.0.1:8080", "server_status": 200.0,
		"server_header_time": 0.00025, "attempts": 2.0, "reason": "UB", "referer": "https://b.test/", "user_agent": "curl/8",
	}
	if !maps.Equal(fields, want) {
		t.Errorf("got\n%v, want\n%v", fields, want)
	}
	if strings.Count(got, "\n") != 1 || strings.Contains(got, "secret") || strings.Contains(got, "c2VjcmV0") {
		t.Errorf("got %q", got)
	}
}

// foreign gives texts that a client, a registry or an operator may choose: every byte
// alone and between others, and what looks like the end of a field.
func foreign() []string {
	texts := []string{
		`" 200 0 "-" "-" forged`, "\r\n192.0.2.1 - - forged", `\`, `\"`, `\\"`, `","reason":"forged`, "\\u0022", `\x22`,
		"é世\u2028\u2029\U0001F600", "\xff\xfe", "\xed\xa0\x80", "\xc0\xaf", "\xe4\xb8", "]", "", " ",
	}
	for c := range 256 {
		texts = append(texts, string([]byte{byte(c)}), "a"+string([]byte{byte(c)})+"b")
	}
	return texts
}

// foreignExchange has a text wherever one can come from outside.
func foreignExchange(text string) *exchange.Exchange {
	ex := loggedExchange()
	ex.Request.Method, ex.Request.Target, ex.Request.Host = []byte(text), []byte("/"+text), []byte(text)
	ex.Request.Header = exchange.Header{
		{Name: []byte("referer"), Value: []byte("r" + text)}, {Name: []byte("USER-AGENT"), Value: []byte("u" + text)},
	}
	ex.Listener, ex.Result.Route, ex.Result.Upstream, ex.Result.Server = text, text, text, text
	ex.Result.User = text
	return ex
}

func TestAccessLogCombinedCannotBeForged(t *testing.T) {
	escaped := regexp.MustCompile(`\\x[0-9A-F]{2}`)
	plain := func(text string) string {
		return escaped.ReplaceAllStringFunc(text, func(e string) string {
			return string([]byte{byte(strings.IndexByte(hexDigits, e[2])<<4 | strings.IndexByte(hexDigits, e[3]))})
		})
	}
	for _, text := range foreign() {
		got := logged(AccessLogConfig{Format: "combined", Sample: 1}, foreignExchange(text), 502)
		parts := combinedLine.FindStringSubmatch(got)
		if parts == nil {
			t.Errorf("%q: got %q", text, got)
			continue
		}
		for i := range len(got) - 1 {
			if c := got[i]; c < ' ' || c > '~' {
				t.Errorf("%q: got byte %#x in %q", text, c, got)
			}
		}
		name := text
		if text == "" {
			name = "-"
		}
		want := []string{text + " /" + text + " HTTP/1.1", "502", "22", "r" + text, "u" + text, name, name, name, name, "200"}
		fields := parts[3:13]
		for i := range want {
			if plain(fields[i]) != want[i] {
				t.Errorf("%q: field %d is %q, want %q", text, i, fields[i], want[i])
			}
		}
	}
}

func TestAccessLogJSONIsValid(t *testing.T) {
	for _, text := range foreign() {
		got := logged(AccessLogConfig{Format: "json", Sample: 1}, foreignExchange(text), 502)
		if !utf8.ValidString(got) || strings.Count(got, "\n") != 1 {
			t.Errorf("%q: got %q", text, got)
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(got), &fields); err != nil {
			t.Errorf("%q: %v in %s", text, err, got)
			continue
		}
		var clean strings.Builder
		for _, r := range text { // each byte that is no UTF-8 alone becomes U+FFFD
			clean.WriteRune(r)
		}
		want := clean.String()
		for key, value := range map[string]string{
			"method": want, "target": "/" + want, "host": string(withoutUserinfo([]byte(want), 0)), "referer": "r" + want, "user_agent": "u" + want,
			"user": want, "listener": want, "route": want, "upstream": want, "server": want, "reason": "UB",
		} {
			if fields[key] != value {
				t.Errorf("%q: %s is %q, want %q", text, key, fields[key], value)
			}
		}
		if len(fields) != 20 {
			t.Errorf("%q: got %d fields, want 20", text, len(fields))
		}
	}
}

func FuzzAccessLog(f *testing.F) {
	for _, text := range foreign() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ex := foreignExchange(text)
		if got := logged(AccessLogConfig{Format: "combined", Sample: 1}, ex, 200); !combinedLine.MatchString(got) {
			t.Errorf("got %q", got)
		}
		if got := logged(AccessLogConfig{Format: "json", Sample: 1}, ex, 200); !json.Valid([]byte(got)) || !utf8.ValidString(got) {
			t.Errorf("got %q", got)
		}
	})
}

func TestAccessLogSampling(t *testing.T) {
	const requests = 10_000
	for _, tc := range []struct {
		format     string
		sample     float64
		status     int
		reason     exchange.Reason
		least, top int
	}{
		{"combined", 1, 200, "", requests, requests},
		{"combined", 0, 200, "", 0, 0},
		{"combined", 0, 404, "", 0, 0},
		{"combined", 0, 499, "", 0, 0},
		// What went wrong is never left out, nor what drover answered itself.
		{"combined", 0, 500, "", requests, requests},
		{"json", 0, 503, "", requests, requests},
		{"combined", 0, 404, exchange.ReasonNoRoute, requests, requests},
		{"combined", 0, 200, exchange.ReasonBodyCut, requests, requests},
		// 10 standard deviations either way.
		{"json", 0.5, 200, "", 4500, 5500},
		{"combined", 0.1, 200, "", 700, 1300},
		{"combined", 0.1, 500, "", requests, requests},
		{accessLogOff, 1, 500, exchange.ReasonConnect, 0, 0},
	} {
		ex := requestFor("GET", "a.test", "/")
		ex.Result.Reason = tc.reason
		var l AccessLog
		lines := 0
		for range requests {
			l.Log(AccessLogConfig{Format: tc.format, Sample: tc.sample}, ex, tc.status, 0)
			lines += strings.Count(string(l.buf), "\n")
			l.buf = l.buf[:0]
		}
		if lines < tc.least || lines > tc.top {
			t.Errorf("%s, sample %g, status %d, reason %q: got %d lines of %d, want %d to %d",
				tc.format, tc.sample, tc.status, tc.reason, lines, requests, tc.least, tc.top)
		}
	}
}

func TestAccessLogConfigThatIsRefused(t *testing.T) {
	var good AccessLogConfig
	good.SetDefaults()
	if err := good.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	nan := 0.0
	nan /= nan
	for _, tc := range []struct {
		change func(c *AccessLogConfig)
		want   string
	}{
		{func(c *AccessLogConfig) { c.Format = "common" }, "want combined, json or off"},
		{func(c *AccessLogConfig) { c.Output = "" }, "want stdout, stderr or a file's path"},
		{func(c *AccessLogConfig) { c.Sample = -0.1 }, "want 0 to 1"},
		{func(c *AccessLogConfig) { c.Sample = 1.1 }, "want 0 to 1"},
		{func(c *AccessLogConfig) { c.Sample = nan }, "want 0 to 1"},
	} {
		c := good
		tc.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %q", c, err, tc.want)
		}
	}
	for _, format := range slices.Concat(slices.Collect(maps.Keys(accessFormats)), []string{accessLogOff}) {
		c := good
		c.Format = format
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}
