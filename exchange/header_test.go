package exchange

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// header makes a Header of "Name: value" lines.
func header(lines ...string) Header {
	var h Header
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

func (h Header) lines() []string {
	lines := []string{}
	for _, f := range h {
		lines = append(lines, fmt.Sprintf("%s: %s", f.Name, f.Value))
	}
	return lines
}

func TestHeaderChanges(t *testing.T) {
	before := []string{"Accept: */*", "cookie: a=1", "X-Mid: m", "Cookie: b=2", "COOKIE: c=3", "Z: "}
	for _, c := range []struct {
		name   string
		change func(*Header)
		want   []string
	}{
		{"add appends", func(h *Header) { h.Add("accept", "text/html") }, append(slices.Clone(before), "accept: text/html")},
		{"set keeps place and spelling", func(h *Header) { h.Set("X-MID", "n") },
			[]string{"Accept: */*", "cookie: a=1", "X-Mid: n", "Cookie: b=2", "COOKIE: c=3", "Z: "}},
		{"set makes one of many", func(h *Header) { h.Set("Cookie", "d=4") }, []string{"Accept: */*", "cookie: d=4", "X-Mid: m", "Z: "}},
		{"set appends what is missing", func(h *Header) { h.Set("Cook", "d") }, append(slices.Clone(before), "Cook: d")},
		{"set the last", func(h *Header) { h.Set("z", "1") },
			[]string{"Accept: */*", "cookie: a=1", "X-Mid: m", "Cookie: b=2", "COOKIE: c=3", "Z: 1"}},
		{"delete every one", func(h *Header) { h.Del("cOOKIe") }, []string{"Accept: */*", "X-Mid: m", "Z: "}},
		{"delete none", func(h *Header) { h.Del("Cookies") }, before},
		{"delete all there is", func(h *Header) { h.Del("accept"); h.Del("cookie"); h.Del("x-mid"); h.Del("z") }, []string{}},
	} {
		h := header(before...)
		c.change(&h)
		if got := h.lines(); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q; want %q", c.name, got, c.want)
		}
	}
}

func TestHeaderLooks(t *testing.T) {
	h := header("Accept: */*", "cookie: a=1", "Cookie: b=2", "Empty: ")
	for _, c := range []struct {
		name, value string
		count       int
	}{
		{"COOKIE", "a=1", 2}, {"accept", "*/*", 1}, {"empty", "", 1}, {"Accep", "", 0}, {"Accept-", "", 0}, {"", "", 0},
	} {
		if got := string(h.Get(c.name)); got != c.value {
			t.Errorf("Get(%q) = %q; want %q", c.name, got, c.value)
		}
		if got := h.Count(c.name); got != c.count {
			t.Errorf("Count(%q) = %d; want %d", c.name, got, c.count)
		}
		if got := h.Has(c.name); got != (c.count > 0) {
			t.Errorf("Has(%q) = %v", c.name, got)
		}
	}
	if h.Get("absent") != nil || h.Get("empty") == nil {
		t.Error("Get does not tell an empty value from a missing field")
	}
	if n := testing.AllocsPerRun(100, func() { h.Get("Empty"); h.Has("nothing"); h.Count("cookie") }); n > 0 {
		t.Errorf("looking allocates %v times; want 0", n)
	}
}

// TestEqualFold goes through all pairs of bytes: ASCII letters fold, nothing else does.
func TestEqualFold(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			x, y := []byte{'x', byte(a)}, []byte{'X', byte(b)}
			letters := a < 128 && b < 128 && strings.EqualFold(string(rune(a)), string(rune(b)))
			if got, want := EqualFold(x, string(y)), a == b || letters; got != want {
				t.Fatalf("EqualFold(%q, %q) = %v; want %v", x, y, got, want)
			}
		}
	}
	if EqualFold([]byte("Host"), "Hos") || EqualFold(nil, "a") || !EqualFold(nil, "") {
		t.Error("names of different lengths are taken for alike, or none for different")
	}
}

// TestHeaderTwin makes the same random changes to a Header and to a slow, obvious list
// of lines.
func TestHeaderTwin(t *testing.T) {
	names := []string{"A", "a", "Ab", "aB", "B", "ab-c"}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var h Header
		twin := [][2]string{}
		for range 40 {
			name, value := names[r.IntN(len(names))], fmt.Sprint(r.IntN(100))
			same := func(f [2]string) bool { return strings.EqualFold(f[0], name) }
			switch first := slices.IndexFunc(twin, same); r.IntN(4) {
			case 0, 1:
				h.Add(name, value)
				twin = append(twin, [2]string{name, value})
			case 2:
				h.Set(name, value)
				if first < 0 {
					twin = append(twin, [2]string{name, value})
					break
				}
				kept := append(slices.Clone(twin[:first]), [2]string{twin[first][0], value})
				twin = append(kept, slices.DeleteFunc(slices.Clone(twin[first+1:]), same)...)
			case 3:
				h.Del(name)
				twin = slices.DeleteFunc(slices.Clone(twin), same)
			}
			want := []string{}
			for _, f := range twin {
				want = append(want, f[0]+": "+f[1])
			}
			if got := h.lines(); !slices.Equal(got, want) {
				t.Fatalf("seed %d: got %q; want %q", seed, got, want)
			}
		}
	}
}

func TestBodyAllowed(t *testing.T) {
	for _, c := range []struct {
		method string
		status int
		want   bool
	}{
		{"GET", 200, true}, {"GET", 100, false}, {"GET", 103, false}, {"POST", 204, false}, {"GET", 205, true},
		{"GET", 304, false}, {"GET", 404, true}, {"HEAD", 200, false}, {"HEAD", 404, false}, {"head", 200, true},
	} {
		if got := BodyAllowed([]byte(c.method), c.status); got != c.want {
			t.Errorf("BodyAllowed(%s, %d) = %v; want %v", c.method, c.status, got, c.want)
		}
	}
}
