package discovery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"drover/backend"
	"drover/discovery/format"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// queryTypes is the one table of DNS types.
var queryTypes = map[string][]uint16{
	"A":    {dns.TypeA},
	"AAAA": {dns.TypeAAAA},
	"IP":   {dns.TypeA, dns.TypeAAAA},
	"SRV":  {dns.TypeSRV},
}

// DNS asks for a name whenever its answer's TTL has passed. A failure, an answer that
// the name does not exist and an empty answer keep the last good set: a name server
// that loses a zone must not take the service down.
type DNS struct {
	// immutable
	cfg     DNSConfig
	logger  *zap.Logger
	rejects *format.Rejects

	// one goroutine: Run
	last    []backend.Server
	failing string

	// under mu
	mu     sync.Mutex
	status Status
}

const (
	dnsTimeout  = 2 * time.Second
	dnsRetry    = time.Second      // first wait after a failure; it doubles
	dnsMaxRetry = 30 * time.Second // and ends here
)

// NewDNS makes the source. It asks nothing.
func NewDNS(cfg DNSConfig, logger *zap.Logger) (*DNS, error) {
	return &DNS{
		cfg: cfg, logger: logger.With(zap.String("name", cfg.Name)),
		rejects: format.NewRejects(logger),
		status:  Status{Kind: "dns", Path: cfg.Name + " " + cfg.Type, Stale: true},
	}, nil
}

// Status is the source's present status.
func (d *DNS) Status() Status {
	d.mu.Lock()
	s := d.status
	d.mu.Unlock()
	s.Rejected = d.rejects.List()
	return s
}

// Run implements Source.
func (d *DNS) Run(ctx context.Context, emit func([]backend.Server)) error {
	retry := dnsRetry
	for {
		set, ttl, err := d.ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			d.fault(err)
			ttl = retry
			retry = min(2*retry, dnsMaxRetry)
		} else {
			retry = dnsRetry
			d.publish(set, emit)
		}
		// Drovers that started together must not ask together.
		timer := time.NewTimer(ttl + rand.N(ttl/10+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// errNoAnswer and errNoName say that there is nothing under a name. Every other failure
// says nothing about it.
var (
	errNoAnswer = errors.New("got an empty answer; want at least one address")
	errNoName   = errors.New("got that there is no such name (NXDOMAIN)")
)

// ask gives the full set and how long it holds.
func (d *DNS) ask(ctx context.Context) ([]backend.Server, time.Duration, error) {
	names, resolvers, err := d.resolvers()
	if err != nil {
		return nil, 0, err
	}
	return d.askNames(ctx, names, resolvers)
}

// askNames follows the search list only where a name is known to lead nowhere: after a
// failure, the next name may be another service.
func (d *DNS) askNames(ctx context.Context, names, resolvers []string) (set []backend.Server, ttl time.Duration, err error) {
	for _, name := range names {
		set, ttl, err = d.askName(ctx, name, resolvers)
		if !errors.Is(err, errNoAnswer) && !errors.Is(err, errNoName) {
			return set, ttl, err
		}
	}
	return nil, 0, err
}

// resolvers gives the names to try, by search list and ndots (resolv.conf(5)), and the
// servers to ask.
func (d *DNS) resolvers() (names, servers []string, err error) {
	if d.cfg.Resolver != "" {
		return []string{dns.Fqdn(d.cfg.Name)}, []string{d.cfg.Resolver}, nil
	}
	system, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the system's resolvers: %w", err)
	}
	for _, s := range system.Servers {
		servers = append(servers, net.JoinHostPort(s, system.Port))
	}
	return system.NameList(d.cfg.Name), servers, nil
}

func (d *DNS) askName(ctx context.Context, name string, resolvers []string) ([]backend.Server, time.Duration, error) {
	var set []backend.Server
	bad := map[string]error{}
	ttl := d.cfg.MaxTTL
	for _, kind := range queryTypes[d.cfg.Type] {
		answer, err := d.query(ctx, name, kind, resolvers)
		if err != nil {
			return nil, 0, err
		}
		records, chainTTL := chain(answer.Answer, name, kind)
		ttl = min(ttl, chainTTL)
		for _, record := range records {
			s, ok, err := d.server(record)
			switch {
			case err != nil:
				bad[recordName(record)] = err
			case ok:
				set = append(set, s)
			}
		}
	}
	d.reject(bad)
	if len(set) == 0 {
		return nil, 0, fmt.Errorf("cannot resolve %q: %w", name, errNoAnswer)
	}
	return backend.Merge(set), max(ttl, d.cfg.MinTTL), nil
}

// reject tells of the records that cannot be used, and of no others.
func (d *DNS) reject(bad map[string]error) {
	for _, r := range d.rejects.List() {
		if bad[r.Path] == nil {
			d.rejects.Remove(r.Path)
		}
	}
	for record, err := range bad {
		d.rejects.Add(record, err)
	}
}

// recordName names a record without its TTL, which differs in every answer of a cache.
func recordName(record dns.RR) string {
	_, data, _ := strings.Cut(record.String(), "\tIN\t")
	return record.Header().Name + " " + strings.ReplaceAll(data, "\t", " ")
}

// maxAliases bounds a chain of CNAME records; resolvers stop at about as many.
const maxAliases = 16

// chain gives the records that answer the question: those of the name or of what it is
// an alias of (RFC 1034 section 4.3.2), and the least TTL on the way. Records of other
// owners are not an answer, whoever put them there.
func chain(answer []dns.RR, name string, kind uint16) ([]dns.RR, time.Duration) {
	ttl := uint32(math.MaxInt32) // RFC 2181 section 8
	owner := dns.CanonicalName(name)
	for range maxAliases {
		var records []dns.RR
		alias := ""
		for _, record := range answer {
			header := record.Header()
			if dns.CanonicalName(header.Name) != owner {
				continue
			}
			switch cname, ok := record.(*dns.CNAME); {
			case header.Rrtype == kind:
				records = append(records, record)
			case ok:
				alias = dns.CanonicalName(cname.Target)
			default:
				continue
			}
			ttl = min(ttl, header.Ttl)
		}
		if len(records) > 0 || alias == "" {
			return records, time.Duration(ttl) * time.Second
		}
		owner = alias
	}
	return nil, time.Duration(ttl) * time.Second
}

// query asks one server after the other, by UDP and, where the answer does not fit, by
// TCP.
func (d *DNS) query(ctx context.Context, name string, kind uint16, servers []string) (*dns.Msg, error) {
	question := new(dns.Msg)
	question.SetQuestion(name, kind)
	question.SetEdns0(1232, false)
	failed := errors.New("got no name server; want one in /etc/resolv.conf or as resolver")
	for _, server := range servers {
		for _, network := range [...]string{"udp", "tcp"} {
			client := dns.Client{Net: network, Timeout: dnsTimeout}
			answer, _, err := client.ExchangeContext(ctx, question, server)
			if err != nil {
				failed = fmt.Errorf("cannot ask %s for %q: %w", server, name, err)
				break
			}
			if answer.Truncated && network == "udp" {
				continue
			}
			if !answers(answer, question) {
				failed = fmt.Errorf("cannot ask %s for %q: it answers another question", server, name)
				break
			}
			if answer.Rcode == dns.RcodeNameError {
				return nil, fmt.Errorf("cannot resolve %q: %w", name, errNoName)
			}
			if answer.Rcode != dns.RcodeSuccess {
				failed = fmt.Errorf("cannot resolve %q: %s says %s", name, server, dns.RcodeToString[answer.Rcode])
				break
			}
			return answer, nil
		}
	}
	return nil, failed
}

// answers reports whether a message is an answer to the question: the id alone is 16
// bits, and a confused resolver repeats it.
func answers(answer, question *dns.Msg) bool {
	if !answer.Response || len(answer.Question) != 1 {
		return false
	}
	got, want := answer.Question[0], question.Question[0]
	return got.Qtype == want.Qtype && got.Qclass == want.Qclass && dns.CanonicalName(got.Name) == dns.CanonicalName(want.Name)
}

// server makes a server of a record; others, such as CNAME, are passed over.
func (d *DNS) server(record dns.RR) (backend.Server, bool, error) {
	switch r := record.(type) {
	case *dns.A:
		return d.address(r.A), true, nil
	case *dns.AAAA:
		return d.address(r.AAAA), true, nil
	case *dns.SRV:
		host := strings.TrimSuffix(r.Target, ".")
		if host == "" {
			return backend.Server{}, false, nil // "." says that there is no service (RFC 2782)
		}
		decode, err := format.Lookup("plain")
		if err != nil {
			return backend.Server{}, false, err
		}
		list, err := decode(d.cfg.Name, fmt.Appendf(nil, "%s://%s", d.cfg.Scheme, net.JoinHostPort(host, fmt.Sprint(r.Port))))
		if err != nil {
			return backend.Server{}, false, err
		}
		s := list[0]
		// RFC 2782: weight 0 is a small share where others have one, not none.
		s.Weight, s.Priority = max(int(r.Weight), 1), int(r.Priority)
		return s, true, nil
	}
	return backend.Server{}, false, nil
}

func (d *DNS) address(ip net.IP) backend.Server {
	return backend.Server{
		ID:     backend.ID{Scheme: d.cfg.Scheme, Host: ip.String(), Port: uint16(d.cfg.Port)}, //nolint:gosec // validated.
		Weight: backend.DefaultWeight,
		Origin: d.cfg.Name,
	}
}

func (d *DNS) publish(set []backend.Server, emit func([]backend.Server)) {
	lowest := slices.MinFunc(set, func(a, b backend.Server) int { return a.Priority - b.Priority }).Priority
	for i := range set {
		set[i].Priority -= lowest
	}
	d.failing = ""
	d.mu.Lock()
	d.status.LastSync, d.status.Servers = time.Now(), len(set)
	d.status.Connected, d.status.Stale, d.status.Fault = true, false, ""
	d.mu.Unlock()
	if d.last != nil && slices.EqualFunc(set, d.last, backend.Server.SameData) {
		return
	}
	d.last = set
	emit(set)
}

// fault notes that the name cannot be asked; each fault is logged once.
func (d *DNS) fault(err error) {
	text := err.Error()
	d.mu.Lock()
	d.status.Connected, d.status.Stale, d.status.Fault = false, true, text
	d.mu.Unlock()
	if text != d.failing {
		d.failing = text
		d.logger.Warn("cannot resolve; the last servers stay in use", zap.Error(err))
	}
}
