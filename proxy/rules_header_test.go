package proxy

import (
	"strings"
	"testing"

	"drover/exchange"
)

// headerOf makes a list of lines such as "Name: value".
func headerOf(lines ...string) exchange.Header {
	var h exchange.Header
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		h.Add(name, strings.TrimPrefix(value, " "))
	}
	return h
}

func TestHeaderRules(t *testing.T) {
	ops := HeaderOps{
		Remove: []string{"x-gone", "X-Both"},
		Set:    []HeaderValue{{"X-Set", "{host}"}, {"X-New", "plain"}, {"X-Both", "set"}, {"X-Empty", ""}},
		Add:    []HeaderValue{{"X-Set", "{method}{query}"}, {"x-set", "{{}}"}},
	}
	route := mustCompile(t, routeTo("r", func(c *RouteConfig) { c.RequestHeaders, c.ResponseHeaders = ops, ops })).Routes()[0]
	before := []string{"A: 1", "X-Gone: 1", "x-SET: old", "X-GONE: 2", "B: 2", "X-Set: older", "X-Both: 1"}
	want := "A: 1|X-Set: a.test|B: 2|X-New: plain|X-Both: set|X-Empty: |X-Set: GET?q|x-set: {}|"
	v := Vars{Exchange: requestFor("GET", "a.test", "/?q")}
	h := headerOf(before...)
	if route.RequestOps.Apply(&h, v); headerText(h) != want {
		t.Errorf("without scratch: got %s, want %s", headerText(h), want)
	}
	// With scratch that is too small, values written before it grew stay as they were.
	scratch := make([]byte, 0, 8)
	v.Scratch = &scratch
	h = headerOf(before...)
	if route.ResponseOps.Apply(&h, v); headerText(h) != want || string(scratch) != "a.testGET?q" {
		t.Errorf("with scratch %q: got %s, want %s", scratch, headerText(h), want)
	}
	h[1].Value = append(h[1].Value, "!!!"...) // must not reach into the next value
	if got := headerText(h); got != strings.Replace(want, "a.test", "a.test!!!", 1) {
		t.Errorf("after growing a value: got %s", got)
	}
	var none HeaderRules
	h = headerOf(before...)
	if none.Apply(&h, v); headerText(h) != headerText(headerOf(before...)) {
		t.Errorf("no rules: got %s", headerText(h))
	}
}
