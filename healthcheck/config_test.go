package healthcheck

import (
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"drover/invalid"
)

// faultTexts is what is wrong, as "path: text".
func faultTexts(err error) string {
	var texts []string
	for _, f := range invalid.Fields(err) {
		texts = append(texts, f.Error())
	}
	return strings.Join(texts, "\n")
}

func TestCheckConfig(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	a := newAuthority(t)
	f := func(change func(*CheckConfig), want string) {
		t.Helper()
		c := &CheckConfig{}
		c.SetDefaults()
		change(c)
		if got := faultTexts(c.Validate()); got != want && (!strings.HasSuffix(want, "…") || !strings.HasPrefix(got, strings.TrimSuffix(want, "…"))) {
			t.Errorf("got %q; want %q", got, want)
		}
	}
	f(func(*CheckConfig) {}, "")
	f(func(c *CheckConfig) { c.Type = "ping" }, `type: got "ping"; want one of grpc, http, tcp`)
	f(func(c *CheckConfig) { c.Interval = 5 }, "interval: got 5ns; want 10ms or more")
	f(func(c *CheckConfig) { c.Timeout, c.EdgeInterval = 0, -1 }, "edge_interval: got -1ns; want 10ms or more\ntimeout: got 0s; want 10ms or more")
	f(func(c *CheckConfig) { c.HealthyAfter, c.UnhealthyAfter = 0, -1 }, "healthy_after: got 0; want 1 to 1000\nunhealthy_after: got -1; want 1 to 1000")
	f(func(c *CheckConfig) { c.JitterPercent, c.Parallel, c.Port = 100, 0, 65536 },
		"jitter_percent: got 100; want 0 to 90\nparallel: got 0; want 1 to 10000\nport: got 65536; want 0 to 65535")
	f(func(c *CheckConfig) { c.Path = "healthz" }, `path: got "healthz"; want a path that begins with "/"`)
	f(func(c *CheckConfig) { c.Path = "/a b\r\n" }, `path: got "/a b\r\n"; want a path that begins with "/"`)
	f(func(c *CheckConfig) { c.Path = "http://other/" }, `path: got "http://other/"; want a path that begins with "/"`)
	f(func(c *CheckConfig) { c.Method = "GET /" }, `method: got "GET /"; want a method such as GET`)
	f(func(c *CheckConfig) { c.Host = "a b" }, `host: got "a b"; want a host name, with a port if needed`)
	f(func(c *CheckConfig) { c.Statuses = nil }, "statuses: got an empty list; want statuses such as 200-299")
	f(func(c *CheckConfig) { c.Statuses = []string{"2xx"} }, `statuses: got "2xx"; want a status such as 304 or a range such as 200-299`)
	f(func(c *CheckConfig) { c.Body = "(" }, `body: got "("; want a regular expression: …`)
	f(func(c *CheckConfig) { c.Headers = []Header{{"X-A", "b"}, {"X A", "b"}} }, `headers[1].name: got "X A"; want a field name`)
	f(func(c *CheckConfig) { c.Headers = []Header{{"HOST", "b"}} }, `headers[0].name: got "HOST"; want it as the check's "host"`)
	f(func(c *CheckConfig) { c.Headers = []Header{{"Content-Length", "9"}} }, `headers[0].name: got "Content-Length"; want a field that does not frame the message`)
	f(func(c *CheckConfig) { c.Headers = []Header{{"X-A", "b\r\nX-B: c"}} }, `headers[0].value: got "b\r\nX-B: c"; want a value without control characters`)
	f(func(c *CheckConfig) { c.CertFile = a.file }, `cert_file: got cert_file "`+a.file+`" and key_file ""; want both or neither`)
	f(func(c *CheckConfig) { c.CAFile = missing }, `ca_file: cannot read authorities: open …`)
	f(func(c *CheckConfig) { c.CAFile = a.keyFile(t) }, `ca_file: cannot use authorities …`)
	f(func(c *CheckConfig) { c.CertFile, c.KeyFile = a.file, missing }, `cert_file: cannot load the client certificate …`)
	f(func(c *CheckConfig) { c.CertFile, c.KeyFile = a.file, a.keyFile(t) }, "")

	// A setting that the type would not read.
	f(func(c *CheckConfig) { c.Type, c.Path, c.Expect = "tcp", "/healthz", "ok" }, "path: got it in a check of type tcp; want it only with type http")
	f(func(c *CheckConfig) { c.Type, c.Host, c.Service = "grpc", "a", "b" }, "")
	f(func(c *CheckConfig) { c.Type, c.Host = "tcp", "a" }, "host: got it in a check of type tcp; want it only with type http or grpc")
	f(func(c *CheckConfig) { c.Send, c.Service = "a", "b" },
		"send: got it in a check of type http; want it only with type tcp\nservice: got it in a check of type http; want it only with type grpc")
	f(func(c *CheckConfig) {
		c.Type, c.Method, c.Headers, c.Statuses, c.Body, c.BodyContains = "grpc", "PUT", []Header{{"A", "b"}}, []string{"200"}, "a", "b"
	}, strings.TrimSuffix(strings.Join([]string{
		"method", "headers", "statuses", "body", "body_contains", "",
	}, ": got it in a check of type grpc; want it only with type http\n"), "\n"))
}

func TestOutlierConfig(t *testing.T) {
	f := func(change func(*OutlierConfig), want string) {
		t.Helper()
		c := &OutlierConfig{}
		c.SetDefaults()
		change(c)
		if got := faultTexts(c.Validate()); got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
	f(func(*OutlierConfig) {}, "")
	f(func(c *OutlierConfig) { c.ConsecutiveFailures, c.ConnectFailures = -1, -1 },
		"consecutive_failures: got -1; want 1 or more, or 0 for off\nconnect_failures: got -1; want 1 or more, or 0 for off")
	f(func(c *OutlierConfig) { c.ConsecutiveFailures = 0 },
		"consecutive_failures: got no rule at all; want consecutive_failures, connect_failures or success_rate, or disabled: true")
	f(func(c *OutlierConfig) { c.ConsecutiveFailures, c.Disabled = 0, true }, "")
	f(func(c *OutlierConfig) { c.ConsecutiveFailures, c.ConnectFailures = 0, 1 }, "")
	f(func(c *OutlierConfig) { c.ConsecutiveFailures, c.SuccessRate.Enabled = 0, true }, "")
	f(func(c *OutlierConfig) { c.Statuses = []string{"99"} }, `statuses: got "99"; want a status such as 304 or a range such as 200-299`)
	f(func(c *OutlierConfig) { c.Statuses = nil }, "")
	f(func(c *OutlierConfig) { c.SlowAfter = -1 }, "slow_after: got -1ns; want 0s (off) or more")
	f(func(c *OutlierConfig) { c.EjectFor = 0 }, "eject_for: got 0s; want 10ms or more")
	f(func(c *OutlierConfig) { c.MaxEjectFor = time.Second }, "max_eject_for: got 1s; want eject_for (30s) or more")
	f(func(c *OutlierConfig) { c.MaxEjectedPercent = 101 }, "max_ejected_percent: got 101; want 0 to 100")
}

func TestSuccessRateConfig(t *testing.T) {
	f := func(change func(*SuccessRateConfig), want string) {
		t.Helper()
		c := &SuccessRateConfig{}
		c.SetDefaults()
		change(c)
		if got := faultTexts(c.Validate()); got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
	f(func(*SuccessRateConfig) {}, "")
	f(func(c *SuccessRateConfig) { c.Window, c.MinRequests, c.GoodPercent = 1, 0, 0 },
		"window: got 1ns; want 1s or more\nmin_requests: got 0; want 1 or more\ngood_percent: got 0; want 1 to 100")
	f(func(c *SuccessRateConfig) { c.StdevFactor = math.NaN() }, "stdev_factor: got NaN; want more than 0")
	f(func(c *SuccessRateConfig) { c.StdevFactor = 3; c.MinServers = 10 }, "min_servers: got 10 with stdev_factor 3; want 2 or more, and more than 10, "+
		"since no server can be farther out than the square root of the others' number")
	f(func(c *SuccessRateConfig) { c.StdevFactor = 3; c.MinServers = 11 }, "")
}

func TestNewNamesTheUpstream(t *testing.T) {
	if _, err := NewMonitor("users", &CheckConfig{Type: "ping"}, nil, nil); err == nil ||
		err.Error() != `cannot check upstream "users": got type "ping"; want one of grpc, http, tcp` {
		t.Errorf("got %v", err)
	}
	if _, err := NewOutlier("users", &OutlierConfig{Statuses: []string{"x"}}, nil, nil); err == nil ||
		!strings.HasPrefix(err.Error(), `cannot watch upstream "users" for outliers: statuses: got "x"`) {
		t.Errorf("got %v", err)
	}
}

func TestParseStatuses(t *testing.T) {
	f := func(text string, want ...int) {
		t.Helper()
		set, err := parseStatuses([]string{text})
		if (err == nil) != (want != nil) {
			t.Fatalf("got %v for %q", err, text)
		}
		if err != nil {
			return
		}
		for status := range len(set) + 10 {
			if got := set.has(status); got != (status >= want[0] && status <= want[1]) {
				t.Errorf("got %v for %d in %q", got, status, text)
			}
		}
	}
	f("304", 304, 304)
	f("200-299", 200, 299)
	f("200 - 299", 200, 299)
	f("100-999", 100, 999)
	f("299-200")
	f("")
	f("-")
	f("200-")
	f("-200")
	f("2xx")
	f("099")
	f("1000")
	f("+20")
	f("200-299-300")
	f("٢٠٠")
}

// FuzzParseStatuses compares the parser with a plain reading of what it takes.
func FuzzParseStatuses(f *testing.F) {
	for _, text := range []string{"200", "200-299", "304 - 305", "99", "2xx", "-", "299-200", "+20", "200--300", "\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, err := parseStatuses([]string{text})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "got ") {
				t.Errorf("got %v", err)
			}
			return
		}
		first, last, n := 0, 0, 0
		for status, in := range set {
			if in {
				if n == 0 {
					first = status
				}
				last, n = status, n+1
			}
		}
		if n == 0 || first < 100 || n != last-first+1 {
			t.Fatalf("got %d statuses from %d to %d for %q", n, first, last, text)
		}
		digits := strings.Map(func(r rune) rune {
			if r == ' ' {
				return -1
			}
			return r
		}, text)
		if !strings.HasPrefix(digits, strconv.Itoa(first)) || !strings.HasSuffix(digits, strconv.Itoa(last)) {
			t.Errorf("got %d to %d for %q", first, last, text)
		}
	})
}
