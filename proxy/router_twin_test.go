package proxy

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"drover/exchange"
)

// slowRouter is Router as its doc comment says it: a list in rank, tried from the top.
type slowRouter []slowEntry

type slowEntry struct {
	cfg   RouteConfig
	host  string
	place int
}

func newSlowRouter(routes []RouteConfig) slowRouter {
	var list slowRouter
	for i, cfg := range routes {
		hosts := cfg.Hosts
		if cfg.Host != "" || len(hosts) == 0 {
			hosts = append(slices.Clone(hosts), cfg.Host)
		}
		for _, host := range hosts {
			list = append(list, slowEntry{cfg, strings.ToLower(host), i})
		}
	}
	hostRank := func(e slowEntry) int {
		switch {
		case e.host == "":
			return 2000
		case strings.HasPrefix(e.host, "*."):
			return 1000 - len(e.host)
		default:
			return 0
		}
	}
	pathRank := func(e slowEntry) int {
		switch {
		case e.cfg.Path != "":
			return 0
		case e.cfg.PathPrefix != "":
			return 1000 - len(e.cfg.PathPrefix)
		case e.cfg.PathRegexp != "":
			return 2000
		default:
			return 3000
		}
	}
	slices.SortStableFunc(list, func(a, b slowEntry) int {
		return cmp.Or(cmp.Compare(hostRank(a), hostRank(b)), cmp.Compare(pathRank(a), pathRank(b)), cmp.Compare(a.place, b.place))
	})
	return list
}

// one gives the route for one reading of the path.
func (list slowRouter) one(ex *exchange.Exchange, path string) string {
	for _, e := range list {
		if e.takes(ex, path) {
			return e.cfg.Name
		}
	}
	return "none"
}

func (e slowEntry) takes(ex *exchange.Exchange, path string) bool {
	host, _, _ := strings.Cut(strings.ToLower(string(ex.Request.Host)), ":")
	host = strings.TrimSuffix(host, ".")
	if suffix, wild := strings.CutPrefix(e.host, "*"); wild {
		if !strings.HasSuffix(host, suffix) || host == suffix {
			return false
		}
	} else if e.host != "" && e.host != host {
		return false
	}
	c := e.cfg
	switch {
	case c.Path != "" && path != c.Path:
		return false
	case c.PathPrefix != "" && path != c.PathPrefix && !strings.HasPrefix(path, strings.TrimSuffix(c.PathPrefix, "/")+"/"):
		return false
	case c.PathRegexp != "" && (path == "*" || !regexp.MustCompile(c.PathRegexp).MatchString(path)):
		return false
	case len(c.Methods) > 0 && !slices.Contains(c.Methods, string(ex.Request.Method)):
		return false
	case len(c.Listeners) > 0 && !slices.Contains(c.Listeners, ex.Listener):
		return false
	}
	for _, f := range c.Headers {
		if !slices.ContainsFunc(ex.Request.Header, func(h exchange.Field) bool {
			return strings.EqualFold(string(h.Name), f.Name) && (f.Present || string(h.Value) == f.Value)
		}) {
			return false
		}
	}
	return true
}

// match is Router.Match, by the list of all readings.
func (list slowRouter) match(ex *exchange.Exchange) string {
	target, _, _ := strings.Cut(string(ex.Request.Target), "?")
	if target == "*" {
		return list.one(ex, "*")
	}
	readings := slowReadings(target)
	if len(readings) == 0 {
		return "none"
	}
	chosen := list.one(ex, readings[0])
	for _, reading := range readings[1:] {
		if list.one(ex, reading) != chosen {
			return "none"
		}
	}
	return chosen
}

func TestRouterAgainstSlowTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	segment := func() string { return pick("a", "b", "ab", "c", "x") }
	hosts := []string{"", "", "a.test", "b.test", "*.test", "*.a.test", "*.b.a.test", "x.a.test"}
	found, none := 0, 0
	for round := range 150 {
		var routes []RouteConfig
		for i := range 1 + random.IntN(12) {
			routes = append(routes, routeTo(fmt.Sprintf("r%d", i), func(c *RouteConfig) {
				if c.Host = pick(hosts...); random.IntN(4) == 0 {
					c.Host, c.Hosts = "", []string{pick("a.test", "b.test"), pick("*.test", "*.a.test")}
				}
				path := "/"
				for range random.IntN(4) {
					path += segment() + "/"
				}
				if len(path) > 1 && random.IntN(2) == 0 {
					path = strings.TrimSuffix(path, "/")
				}
				switch random.IntN(6) {
				case 0:
					c.Path = path
				case 1, 2, 3:
					c.PathPrefix = path
				case 4:
					c.PathRegexp = pick("^/a", "b$", "^/[abc]/x$", "/x")
				}
				if random.IntN(4) == 0 {
					c.Methods = []string{pick("GET", "POST")}
				}
				if random.IntN(6) == 0 {
					c.Listeners = []string{pick("web", "other")}
				}
				if random.IntN(6) == 0 {
					c.Headers = []MatchField{{Name: "x", Value: "1"}, {Name: "Y", Present: true}}[random.IntN(2):]
				}
			}))
		}
		fast, slow := mustCompile(t, routes...), newSlowRouter(routes)
		for range 200 {
			target, odd := "/"+segment(), random.IntN(3) == 0
			for range random.IntN(5) {
				switch {
				case odd:
					target += pick("/", "/", "/", "/", "//", "%2f", `\`, "%5C") +
						pick("a", "b", "c", "x", "ab", "a;p", ";", ".", "..", "%61", "%2e", "..;", "a%00", "b%3bp")
				default:
					target += "/" + segment()
				}
			}
			target += pick("", "/", "?a=/../x")
			if random.IntN(30) == 0 {
				target = "*"
			}
			ex := requestFor(pick("GET", "POST"), pick("a.test", "A.TEST:80", "b.test.", "q.a.test", "x.a.test", "w.b.a.test", "other", ""), target,
				pick("X: 1", "Y: 2", "Z: 3"))
			got, want := matched(fast, ex), slow.match(ex)
			if got != want {
				t.Fatalf("round %d: %s %s%s: got %s, want %s\n%+v", round, ex.Request.Method, ex.Request.Host, target, got, want, routes)
			}
			if got == "none" {
				none++
			} else {
				found++
			}
		}
	}
	if found < none/4 || none < found/20 {
		t.Errorf("the inputs are lopsided: %d found, %d none", found, none)
	}
}

var (
	slowPercent   = regexp.MustCompile(`%[0-9A-Fa-f]{2}|%`)
	slowParams    = regexp.MustCompile(`;[^/]*`)
	slowAllParams = regexp.MustCompile(`(;|%3B)[^/]*`)
)

// slowReadings gives all readings of a path as match_path.go describes them, the
// primary one first; none if it has none.
func slowReadings(raw string) []string {
	if !strings.HasPrefix(raw, "/") || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
		return nil
	}
	decode := func(text string, keep string) string {
		return slowPercent.ReplaceAllStringFunc(text, func(code string) string {
			var c byte = '%'
			_, _ = fmt.Sscanf(code, "%%%2X", &c)
			if strings.IndexByte(keep, c) >= 0 {
				return fmt.Sprintf("%%%02X", c)
			}
			return string([]byte{c})
		})
	}
	controls := "\x7f"
	for c := range byte(0x20) {
		controls += string([]byte{c})
	}
	decoded := decode(raw, `/\%?#;`+controls)
	if strings.Contains(decoded, "%00") {
		return nil
	}
	isDots := func(s string) bool { return s == "." || s == ".." }
	plain := 0
	for _, s := range strings.Split(raw, "/") {
		if isDots(s) {
			plain++
		}
	}
	liberal := raw
	for before := ""; before != liberal; {
		before, liberal = liberal, decode(liberal, controls)
	}
	all := 0
	for _, s := range strings.FieldsFunc(liberal, func(r rune) bool { return r == '/' || r == '\\' }) {
		if before, _, _ := strings.Cut(s, ";"); isDots(before) {
			all++
		}
	}
	strange := strings.Contains(decoded, "%2F") || strings.Contains(decoded, "%5C") || strings.Contains(decoded, "%3B") || strings.ContainsAny(decoded, `\;`)
	if all != plain || plain > 0 && strange {
		return nil
	}
	slashed := func(s string) string { return strings.ReplaceAll(s, "%2F", "/") }
	backed := func(s string) string { return strings.NewReplacer(`\`, "/", "%5C", "/").Replace(s) }
	cut := func(s string) string { return slowParams.ReplaceAllString(s, "") }
	cutAll := func(s string) string { return slowAllParams.ReplaceAllString(s, "") }
	readings := []string{
		slowResolve(slowMerge(decoded)), slowMerge(decoded), slowMerge(slowResolve(decoded)),
		slashed(decoded), backed(decoded), slashed(backed(decoded)),
	}
	for _, cut := range []func(string) string{cut, cutAll} {
		readings = append(readings, cut(decoded), slashed(cut(decoded)), backed(cut(decoded)), backed(slashed(cut(decoded))),
			cut(slashed(decoded)), cut(backed(decoded)), cut(slashed(backed(decoded))))
	}
	for i, r := range readings {
		if i > 2 && plain > 0 {
			return readings[:3]
		}
		readings[i] = slowMerge(r)
	}
	return readings
}

func slowMerge(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

// slowResolve is remove_dot_segments of RFC 3986, section 5.2.4, word for word.
func slowResolve(in string) string {
	out := ""
	for in != "" {
		switch {
		case strings.HasPrefix(in, "/./"):
			in = in[2:]
		case in == "/.":
			in = "/"
		case strings.HasPrefix(in, "/../") || in == "/..":
			in = "/" + strings.TrimPrefix(in[3:], "/")
			out = out[:max(strings.LastIndex(out, "/"), 0)]
		default:
			end := strings.Index(in[1:], "/") + 1
			if end == 0 {
				end = len(in)
			}
			out, in = out+in[:end], in[end:]
		}
	}
	return out
}
