package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"drover/internal/zktest"

	"github.com/go-zookeeper/zk"
)

// TestZnodeToRequest measures the time from a znode's change to the first request that
// obeys it, over 200 changes. The figures are logged; only a change that is never
// obeyed fails.
func TestZnodeToRequest(t *testing.T) {
	changes := 200
	if testing.Short() {
		changes = 20
	}
	zkServer := zktest.Start(t)
	writer := zkServer.Client(t)
	peers := []*peer{startPeer(t, "a"), startPeer(t, "b")}
	const root = "/latency"
	if _, err := writer.Create(root, nil, 0, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	entry := func(p *peer) []byte {
		host, port, _ := strings.Cut(p.address, ":")
		return fmt.Appendf(nil, `{"host":%q,"port":%s}`, host, port)
	}
	if _, err := writer.Create(root+"/one", entry(peers[0]), 0, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
zookeeper: { servers: [ %q ] }
upstreams: [ { name: app, discover: { zookeeper: { path: %q } }, removal_brake: { disabled: true } } ]
routes: [ { upstream: app } ]
`, zkServer.Addr(), root))
	c := client(t, true)
	var took []time.Duration
	for i := range changes {
		target := peers[(i+1)%2]
		begin := time.Now()
		if _, err := writer.Set(root+"/one", entry(target), -1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "requests reach "+target.name, func() bool {
			_, body := fetch(t, c, "GET", n.url("web")+"/", "")
			return body == "GET "+target.name+" 0"
		})
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Logf("znode change to first request, %d changes: median %s, p99 %s, most %s", changes,
		took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}
