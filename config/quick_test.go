package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestQuickStatic(t *testing.T) {
	got, err := Quick(QuickOptions{From: ":8080", To: []string{"127.0.0.1:9000", "127.0.0.1:9001"}})
	if err != nil {
		t.Fatal(err)
	}
	want := load(t, write(t, t.TempDir(), "drover.yaml", `listeners: [ { name: main, address: ":8080" } ]
upstreams: [ { name: main, servers: [ { address: "127.0.0.1:9000" }, { address: "127.0.0.1:9001" } ] } ]
routes: [ { upstream: main } ]
`))
	want.files = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestQuickZooKeeper(t *testing.T) {
	got, err := Quick(QuickOptions{From: "8080", ZooKeeper: []string{"127.0.0.1:2181"}, Path: "/services/app", Policy: "least_request"})
	if err != nil {
		t.Fatal(err)
	}
	want := load(t, write(t, t.TempDir(), "drover.yaml", `listeners: [ { name: main, address: ":8080" } ]
zookeeper: { servers: [ "127.0.0.1:2181" ] }
upstreams: [ { name: main, discover: { zookeeper: { path: /services/app } }, policy: { type: least_request } } ]
routes: [ { upstream: main } ]
`))
	want.files = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestQuickFaults(t *testing.T) {
	f := func(o QuickOptions, want string) {
		t.Helper()
		_, err := Quick(o)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: got error\n%v\nwant\n%s", o, err, want)
		}
	}
	f(QuickOptions{From: ":8080"}, "got --to and --zookeeper, or none of them; want --to HOST:PORT, or --zookeeper HOST:PORT --path /PATH")
	f(QuickOptions{From: ":8080", To: []string{"127.0.0.1:9000"}, Policy: "rr"}, "flag --policy: upstreams[0].policy.type: got \"rr\"; want one of ")
	f(QuickOptions{From: ":8080", Path: "/a"}, "flag --zookeeper: zookeeper.servers: got none; want at least one host:port")
	f(QuickOptions{From: ":8080", ZooKeeper: []string{"zk:2181"}}, `flag --path: upstreams[0].discover.zookeeper.path: got ""; want an absolute path such as /services/users`)
	f(QuickOptions{From: ":8080", To: []string{"a:1"}, Path: "/x", ZooKeeper: []string{"zk:2181"}}, "got --to and --zookeeper, or none of them; want --to HOST:PORT, or --zookeeper HOST:PORT --path /PATH")
	f(QuickOptions{From: "web", To: []string{"127.0.0.1:9000"}}, `flag --from: listeners[0].address: got "web"; want host:port such as 0.0.0.0:8080 or :8080`)
}
