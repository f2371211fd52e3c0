package discovery

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/backend"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// nameServer is a real DNS server, by UDP and TCP on one port, that answers what it is
// told.
type nameServer struct {
	addr string

	mu      sync.Mutex
	records map[uint16][]dns.RR
	rcode   map[string]int // by name, "" for every name
	asked   []query
	bend    func(*dns.Msg) // what is wrong with an answer, nil for nothing
	cutUDP  bool
	silent  bool
}

type query struct {
	name, network string
	kind          uint16
	at            time.Time
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	n := &nameServer{records: map[uint16][]dns.RR{}, rcode: map[string]int{}}
	listener, packets := listenBoth(t)
	n.addr = listener.Addr().String()
	for _, s := range []*dns.Server{{Listener: listener}, {PacketConn: packets}} {
		s.Handler = n
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		go func() { ended <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := s.ShutdownContext(context.Background()); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
	return n
}

// listenBoth finds a port that is free for TCP and UDP.
func listenBoth(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		packets, err := net.ListenPacket("udp", listener.Addr().String())
		if err == nil {
			return listener, packets
		}
		must(t, listener.Close())
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}

func (n *nameServer) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	question := request.Question[0]
	network := w.LocalAddr().Network()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, query{question.Name, network, question.Qtype, time.Now()})
	if n.silent {
		return
	}
	answer := new(dns.Msg).SetReply(request)
	answer.Rcode = n.rcode[""]
	if code, ok := n.rcode[question.Name]; ok {
		answer.Rcode = code
	}
	if answer.Rcode == dns.RcodeSuccess {
		answer.Answer = n.records[question.Qtype]
	}
	if n.cutUDP && network == "udp" {
		answer.Truncated, answer.Answer = true, answer.Answer[:1]
	}
	if n.bend != nil {
		n.bend(answer)
	}
	_ = w.WriteMsg(answer) // the asker may have gone
}

func (n *nameServer) change(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
}

func (n *nameServer) answer(kind uint16, records ...string) {
	var parsed []dns.RR
	for _, text := range records {
		record, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		parsed = append(parsed, record)
	}
	n.change(func() { n.records[kind] = parsed })
}

func (n *nameServer) code(code int) { n.change(func() { n.rcode[""] = code }) }

func (n *nameServer) queries() []query {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]query(nil), n.asked...)
}

// testDNS asks often; the rest is as users have it.
func testDNS(resolver, kind string) DNSConfig {
	var cfg DNSConfig
	cfg.SetDefaults()
	cfg.Name, cfg.Type, cfg.Resolver, cfg.MinTTL = "web.example", kind, resolver, 5*time.Millisecond
	if kind != "SRV" {
		cfg.Port = 80
	}
	return cfg
}

func followDNS(t *testing.T, cfg DNSConfig) *followed {
	t.Helper()
	source, err := NewDNS(cfg, zap.NewNop())
	must(t, err)
	return follow(t, source)
}

// TestDNSRecords has an answer and the set that it makes.
func TestDNSRecords(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		answer     []string
		want       string
	}{
		{"addresses", "A", []string{"web.example. 0 IN A 10.0.0.2", "web.example. 0 IN A 10.0.0.1"}, "10.0.0.1:80 10.0.0.2:80"},
		{"one twice", "A", []string{"web.example. 0 IN A 10.0.0.1", "web.example. 0 IN A 10.0.0.1"}, "10.0.0.1:80"},
		{"version 6", "AAAA", []string{"web.example. 0 IN AAAA 2001:DB8::1"}, "[2001:db8::1]:80"},
		{"both", "IP", []string{"web.example. 0 IN A 10.0.0.1", "web.example. 0 IN AAAA 2001:db8::1"}, "10.0.0.1:80 [2001:db8::1]:80"},
		{"only one of both", "IP", []string{"web.example. 0 IN A 10.0.0.1"}, "10.0.0.1:80"},
		{"alias", "A", []string{"web.example. 0 IN CNAME a.example.", "A.EXAMPLE. 0 IN CNAME b.example.", "b.example. 0 IN A 10.0.0.1"}, "10.0.0.1:80"},
		{"alias out of order", "A", []string{"b.example. 0 IN A 10.0.0.1", "web.example. 0 IN CNAME b.example."}, "10.0.0.1:80"},
		{"another owner", "A", []string{"web.example. 0 IN A 10.0.0.1", "evil.example. 0 IN A 10.6.6.6"}, "10.0.0.1:80"},
		{"another type", "A", []string{"web.example. 0 IN TXT \"x\"", "web.example. 0 IN A 10.0.0.1"}, "10.0.0.1:80"},
		{"case of the owner", "A", []string{"WEB.example. 0 IN A 10.0.0.1"}, "10.0.0.1:80"},
		{"services", "SRV", []string{"web.example. 0 IN SRV 20 5 8080 B.example.", "web.example. 0 IN SRV 10 0 80 a.example."}, "a.example:80 b.example:8080*5/10"},
		{"no service at", "SRV", []string{"web.example. 0 IN SRV 0 1 80 a.example.", "web.example. 0 IN SRV 0 0 0 ."}, "a.example:80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startNameServer(t)
			for _, record := range c.answer {
				for _, kind := range queryTypes[c.kind] {
					parsed, err := dns.NewRR(record)
					must(t, err)
					if c.kind != "IP" || parsed.Header().Rrtype == kind {
						n.change(func() { n.records[kind] = append(n.records[kind], parsed) })
					}
				}
			}
			followDNS(t, testDNS(n.addr, c.kind)).next(t, c.want)
		})
	}
}

// TestDNSLastGoodAnswer: whatever a name server says or does not say, the servers stay.
func TestDNSLastGoodAnswer(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*nameServer)
		fault string
	}{
		{"no such name", func(n *nameServer) { n.rcode[""] = dns.RcodeNameError }, "NXDOMAIN"},
		{"refused", func(n *nameServer) { n.rcode[""] = dns.RcodeRefused }, "REFUSED"},
		{"empty", func(n *nameServer) { n.records = map[uint16][]dns.RR{} }, "empty answer"},
		{"alias that leads nowhere", func(n *nameServer) {
			n.records[dns.TypeA] = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: "web.example.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "gone.example."}}
		}, "empty answer"},
		{"alias in a circle", func(n *nameServer) {
			n.records[dns.TypeA] = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: "web.example.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "web.example."}}
		}, "empty answer"},
		{"another question", func(n *nameServer) {
			n.bend = func(m *dns.Msg) { m.Question[0].Name = "other.example." }
		}, "another question"},
		{"another id", func(n *nameServer) { n.bend = func(m *dns.Msg) { m.Id++ } }, "cannot ask"},
		{"no answer", func(n *nameServer) { n.silent = true }, "cannot ask"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := startNameServer(t)
			n.answer(dns.TypeA, "web.example. 0 IN A 10.0.0.1")
			f := followDNS(t, testDNS(n.addr, "A"))
			f.next(t, "10.0.0.1:80")
			n.change(func() { c.spoil(n) })
			s := f.status(t, "stale", func(s Status) bool { return s.Stale })
			if !strings.Contains(s.Fault, c.fault) || s.Servers != 1 {
				t.Errorf("status %+v; want the server, and a fault with %q", s, c.fault)
			}
			f.stop()
			if len(f.sets) > 0 {
				t.Errorf("emitted %q", setText(<-f.sets))
			}
		})
	}
}

// TestDNSTruncated: an answer that does not fit is asked for again by TCP.
func TestDNSTruncated(t *testing.T) {
	n := startNameServer(t)
	n.answer(dns.TypeA, "web.example. 0 IN A 10.0.0.1", "web.example. 0 IN A 10.0.0.2")
	n.change(func() { n.cutUDP = true })
	followDNS(t, testDNS(n.addr, "A")).next(t, "10.0.0.1:80 10.0.0.2:80")
	if asked := n.queries(); asked[0].network != "udp" || asked[1].network != "tcp" {
		t.Errorf("asked %v; want udp, then tcp", asked)
	}
}

// TestDNSTTL: an answer is used for as long as the least TTL on the way to it, within
// min_ttl and max_ttl.
func TestDNSTTL(t *testing.T) {
	for _, c := range []struct {
		name     string
		records  []string
		min, max time.Duration
		wait     time.Duration // at least
	}{
		{"the answer's", []string{"web.example. 1 IN A 10.0.0.1"}, time.Millisecond, time.Hour, time.Second},
		{"the alias's", []string{"web.example. 1 IN CNAME a.example.", "a.example. 3600 IN A 10.0.0.1"}, time.Millisecond, time.Hour, time.Second},
		{"not another owner's", []string{"x.example. 0 IN A 10.0.0.9", "web.example. 1 IN A 10.0.0.1"}, time.Millisecond, time.Hour, time.Second},
		{"the bound above", []string{"web.example. 3600 IN A 10.0.0.1"}, time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond},
		{"the bound below", []string{"web.example. 0 IN A 10.0.0.1"}, 300 * time.Millisecond, time.Hour, 300 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := startNameServer(t)
			n.answer(dns.TypeA, c.records...)
			cfg := testDNS(n.addr, "A")
			cfg.MinTTL, cfg.MaxTTL = c.min, c.max
			f := followDNS(t, cfg)
			f.next(t, "10.0.0.1:80")
			n.answer(dns.TypeA, "web.example. 3600 IN A 10.0.0.2")
			f.next(t, "10.0.0.2:80")
			asked := n.queries()
			if got := asked[1].at.Sub(asked[0].at); got < c.wait {
				t.Errorf("asked again after %s; want %s or more", got, c.wait)
			}
		})
	}
}

// TestDNSNextResolver: a name server that fails is passed over; a search list is
// followed where a name leads nowhere, and not after a failure, for the next name may
// be another service.
func TestDNSNextResolver(t *testing.T) {
	ctx := context.Background()
	down, up := startNameServer(t), startNameServer(t)
	down.code(dns.RcodeServerFailure)
	up.answer(dns.TypeA, "web.example. 0 IN A 10.0.0.1")
	source, err := NewDNS(testDNS(up.addr, "A"), zap.NewNop())
	must(t, err)
	set, _, err := source.askName(ctx, "web.example.", []string{down.addr, up.addr})
	if err != nil || setText(set) != "10.0.0.1:80" {
		t.Errorf("set %q, %v; want what the second name server says", setText(set), err)
	}
	ask := func(first int) ([]backend.Server, error) {
		up.change(func() { up.rcode["web.local."] = first })
		set, _, err := source.askNames(ctx, []string{"web.local.", "web.example."}, []string{up.addr})
		return set, err
	}
	if set, err := ask(dns.RcodeNameError); err != nil || setText(set) != "10.0.0.1:80" {
		t.Errorf("after NXDOMAIN: %q, %v; want the next name's", setText(set), err)
	}
	if set, err := ask(dns.RcodeServerFailure); err == nil {
		t.Errorf("after SERVFAIL: %q; want an error", setText(set))
	}
	if _, err := source.query(ctx, "web.example.", dns.TypeA, nil); err == nil || !strings.Contains(err.Error(), "want one in /etc/resolv.conf") {
		t.Errorf("without a name server: %v", err)
	}
}
