package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Waits before a connection attempt. After a failed round over all members the
// client library adds one second of its own.
const (
	firstRetrySpread = 100 * time.Millisecond // so that the clients of a dead member do not come as one
	backoffStep      = 250 * time.Millisecond
	maxBackoff       = 3 * time.Second
	stableAfter      = 5 * time.Second // a connection that lived as long begins a new count
)

// members is the client library's HostProvider: it keeps names, which the dialer
// resolves at each attempt, and takes them in turn from a random one on.
type members struct {
	now    func() time.Time
	random func() float64

	mu        sync.Mutex
	servers   []string
	next      int
	tried     int // since the last connection
	rounds    int // failed in a row, short-lived connections included
	connected time.Time
}

func newMembers() *members { return &members{now: time.Now, random: rand.Float64} }

// Init implements zk.HostProvider.
func (m *members) Init(servers []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.servers = servers
	m.next = int(m.random() * float64(len(servers)))
	return nil
}

// Len implements zk.HostProvider.
func (m *members) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.servers)
}

// Next implements zk.HostProvider. It reports a round as over only when every member
// has failed since the last connection, so that a lost one is replaced at once.
func (m *members) Next() (server string, roundOver bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.connected.IsZero() {
		if m.now().Sub(m.connected) < stableAfter {
			m.rounds++
		} else {
			m.rounds = 0
		}
		m.connected = time.Time{}
		m.tried = 0
	}
	if m.tried == len(m.servers) {
		m.tried = 0
		m.rounds++
		roundOver = true
	}
	m.tried++
	server = m.servers[m.next]
	m.next = (m.next + 1) % len(m.servers)
	return server, roundOver
}

// Connected implements zk.HostProvider.
func (m *members) Connected() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.connected = m.now()
}

// delay is how long to wait before the attempt that Next named: none to speak of in
// the first round, then up to a growing bound, drawn anew each time.
func (m *members) delay() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	spread := firstRetrySpread
	if m.rounds > 0 {
		spread = min(maxBackoff, backoffStep<<min(m.rounds, 10))
	}
	if m.tried > 1 {
		spread = 0 // one wait for each round
	}
	return time.Duration(m.random() * float64(spread))
}

// dialer makes guarded connections. It takes a context where the client library
// has none.
type dialer struct {
	timeout time.Duration
	resolve func(ctx context.Context, host string) ([]string, error)
	members *members
}

// dial waits its turn, then resolves, connects and bounds the handshake, all within
// the time-out.
func (d *dialer) dial(ctx context.Context, address string) (*guardConn, error) {
	if err := wait(ctx, d.members.delay()); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(d.timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("cannot dial %q: %w", address, err)
	}
	ips, err := d.resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("cannot resolve %q: %w", host, err)
	}
	rand.Shuffle(len(ips), func(i, j int) { ips[i], ips[j] = ips[j], ips[i] })
	conn, err := dialAny(ctx, deadline, ips, port)
	if err != nil {
		return nil, fmt.Errorf("cannot dial %q: %w", address, err)
	}
	guarded, err := newGuardConn(conn, deadline)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return guarded, nil
}

// dialAny tries the addresses of one name in turn, each with its share of the time.
func dialAny(ctx context.Context, deadline time.Time, ips []string, port string) (net.Conn, error) {
	failures := []error{}
	for i, ip := range ips {
		share := time.Until(deadline) / time.Duration(len(ips)-i)
		attempt := net.Dialer{Timeout: max(share, time.Millisecond)}
		conn, err := attempt.DialContext(ctx, "tcp", net.JoinHostPort(ip, port))
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	if len(failures) == 0 {
		return nil, errors.New("its name has no addresses")
	}
	return nil, errors.Join(failures...)
}

func lookUp(ctx context.Context, host string) ([]string, error) {
	if net.ParseIP(host) != nil {
		return []string{host}, nil
	}
	return net.DefaultResolver.LookupHost(ctx, host)
}

// wait sleeps unless ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
