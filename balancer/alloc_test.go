//go:build !race

package balancer

import (
	"testing"

	"drover/backend"
)

func TestAllocPick(t *testing.T) {
	for name, spec := range policies {
		for _, n := range []int{1, 3, 10_000} {
			set := makeSet(mixed(n)...)
			p := build(t, name, set, func(c *PolicyConfig) {
				if spec.hashes {
					c.BoundedLoad = 1.25
				}
			})
			var tried backend.Tried
			tried.Add(set[0].member.Live)
			key := uint64(0)
			if got := testing.AllocsPerRun(1000, func() {
				key += 0x9e3779b97f4a7c15
				p.pick(key, nil)
				p.pick(key, &tried)
			}); got != 0 {
				t.Errorf("%s with %d servers: %g allocations per pick; want none", name, n, got)
			}
		}
	}
}

func TestAllocSpare(t *testing.T) {
	g := newGroup(t)
	g.Update(servers("a b!1 c!1 d!2"))
	var tried backend.Tried
	tried.Add(member(g, "a").Live)
	tried.Add(member(g, "b").Live)
	if got := testing.AllocsPerRun(100, func() { g.Pick(0, &tried); g.PickFree(1, &tried) }); got != 0 {
		t.Errorf("%g allocations per pick; want none", got)
	}
}
