package balancer

import (
	"slices"
	"testing"

	"drover/backend"
)

// TestSpares: whoever has tried every server that the policy has gets one of the next
// zone or priority, in that order, and the same again only when there is no other.
func TestSpares(t *testing.T) {
	g := newGroup(t, func(c *Config) { c.Zone.Own, c.Zone.MinAvailablePercent = "x", 50 })
	g.Update(servers("a@x b@x c@y d@y e!1 f!2 g!2 h!1:0"))
	member(g, "g").SetHealth(backend.HealthDown)
	g.refresh()
	var order []string
	var tried backend.Tried
	for range 6 {
		m := g.Pick(0, &tried)
		tried.Add(m.Live)
		order = append(order, m.Host)
	}
	slices.Sort(order[:2])  // of the own zone, in any order
	slices.Sort(order[2:4]) // of the other
	if want := []string{"a", "b", "c", "d", "e", "f"}; !slices.Equal(order, want) {
		t.Errorf("tried %v; want %v", order, want)
	}
	if m := g.Pick(0, &tried); m == nil {
		t.Error("none, though servers are there; want one again")
	}
	for range 100 {
		if m := g.Pick(0, nil); m.Zone != "x" {
			t.Fatalf("a first try went to %s; want the own zone", m.Host)
		}
	}
}
