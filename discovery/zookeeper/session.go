package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"
)

// settle is how long a new connection is left to the client library before sources
// use it. The library restores its watches meanwhile, relative to the last
// transaction seen: an answer that overtook this would move that mark past changes
// nobody was told of.
const settle = 10 * time.Millisecond

// maxCalls bounds the calls under way. More bring nothing: at 16 the server is the limit.
const maxCalls = 16

// Session is one connection to an ensemble, shared by every source on it. It
// reconnects and opens new sessions by itself, for ever.
type Session struct {
	// Immutable.
	cfg     Config
	chroot  string // "" or "/a/b"
	logger  *zap.Logger
	dialer  *dialer
	watches *watchTable
	slots   chan struct{}  // one token for each call under way
	calls   sync.WaitGroup // calls, abandoned ones included
	kick    chan struct{}  // a token when the library's state changed

	counts sessionCounts // atomic

	mu    sync.Mutex
	lib   library
	state State
	boxes map[*mailbox]struct{}
}

// library is what a session knows of the client library's side of it.
type library struct {
	conn   *zk.Conn   // nil outside Run
	socket *guardConn // the current connection, nil before the first
	phase  zk.State   // as last reported
	greets uint64     // how often a session was reported; tells one connection from the next
	seenID int64      // the session that the sources know, 0 for none
}

// sessionCounts are the counters behind State and Stats.
type sessionCounts struct {
	reads, failures, timeouts, events, dialFailures, corrections atomic.Uint64
}

// State is what a session knows of itself.
type State struct {
	// Connected says that the session is usable.
	Connected bool
	// SessionID is the server's name for the session, 0 before the first.
	SessionID int64
	// Server is the member that we are or were connected to, host:port.
	Server string
	// Since is when Connected last changed; the start of Run before the first
	// connection.
	Since time.Time
	// Reconnects counts the connections after the first.
	Reconnects uint64
	// Expiries counts the sessions that the ensemble gave up. While no member can be
	// reached nobody knows; Since tells for how long.
	Expiries uint64
	// Corrections counts the changes that a check found and no watch had told of.
	// It stays 0 unless watches are lost.
	Corrections uint64
	// LastError is the last failure to connect or to authenticate, "" for none.
	LastError string
}

// Stats are a session's counters and gauges.
type Stats struct {
	Reads        uint64 // answered calls, NoNode included
	Failures     uint64 // calls without a usable answer
	Timeouts     uint64 // calls given up; each drops the connection
	Events       uint64 // watches fired
	DialFailures uint64
	Watches      int // armed at present
}

// NewSession makes a session with an ensemble; Run connects.
func NewSession(cfg Config, logger *zap.Logger) (*Session, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cannot use the zookeeper block: %w", err)
	}
	return &Session{
		cfg:     cfg,
		chroot:  strings.TrimSuffix(cfg.Chroot, "/"),
		logger:  logger,
		dialer:  &dialer{timeout: cfg.ConnectTimeout, resolve: lookUp, members: newMembers()},
		watches: newWatchTable(),
		slots:   make(chan struct{}, maxCalls),
		kick:    make(chan struct{}, 1),
		lib:     library{phase: zk.StateDisconnected},
		boxes:   map[*mailbox]struct{}{},
	}, nil
}

// Config is what the session was made with.
func (s *Session) Config() Config { return s.cfg }

// State is the session's present state.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.state
	state.Corrections = s.counts.corrections.Load()
	return state
}

// Stats are the session's counters.
func (s *Session) Stats() Stats {
	return Stats{
		Reads:        s.counts.reads.Load(),
		Failures:     s.counts.failures.Load(),
		Timeouts:     s.counts.timeouts.Load(),
		Events:       s.counts.events.Load(),
		DialFailures: s.counts.dialFailures.Load(),
		Watches:      s.watches.armed(),
	}
}

// Run keeps the session until ctx ends, and closes it then. It returns nil: an
// ensemble that is away or refuses us is a state, not an end.
func (s *Session) Run(ctx context.Context) error {
	s.mu.Lock()
	s.state.Since = time.Now()
	s.mu.Unlock()
	credentials, err := s.credentials(ctx)
	if err != nil {
		return nil // ctx ended; what failed before is logged
	}
	dialing, stopDialing := context.WithCancel(ctx)
	defer stopDialing()
	conn, events, err := zk.Connect(s.cfg.Servers, s.cfg.SessionTimeout,
		zk.WithDialer(func(_, address string, _ time.Duration) (net.Conn, error) { return s.dial(dialing, address) }),
		zk.WithHostProvider(s.dialer.members),
		zk.WithEventCallback(s.onEvent),
		zk.WithMaxBufferSize(maxPacket),
		zk.WithLogger(newLibraryLogger(ctx, s.logger)), zk.WithLogInfo(false))
	if err != nil {
		return fmt.Errorf("cannot start a zookeeper session: %w", err)
	}
	s.mu.Lock()
	s.lib.conn = conn
	s.mu.Unlock()

	s.follow(ctx, conn, credentials)

	if !s.State().Connected {
		s.dropConnection(context.Cause(ctx)) // there is no session to close in good order
	}
	conn.Close()
	stopDialing()
	s.dropConnection(context.Cause(ctx))
	for range events { // the library closes it as its last act; the callback has told us all
	}
	s.calls.Wait()
	s.mu.Lock()
	s.lib.conn = nil
	s.mu.Unlock()
	return nil
}

// follow brings the session up each time that the library has a connection.
func (s *Session) follow(ctx context.Context, conn *zk.Conn, credentials []byte) {
	authenticated := credentials == nil
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		}
		greets, ok := s.greeted()
		if !ok {
			continue
		}
		if !authenticated {
			if err := s.authenticate(ctx, credentials); err != nil {
				s.dropConnection(fmt.Errorf("cannot authenticate: %w", err)) // the next one tries again, after a wait
				continue
			}
			authenticated = true // the library repeats it at each connect
		}
		if wait(ctx, settle) != nil {
			return
		}
		s.up(conn.SessionID(), greets)
	}
}

func (s *Session) authenticate(ctx context.Context, credentials []byte) error {
	return s.call(ctx, func(conn *zk.Conn) error { return conn.AddAuth(s.cfg.Auth.Scheme, credentials) })
}

// credentials reads the credentials file, until it can be read. It fails when ctx ends.
func (s *Session) credentials(ctx context.Context) ([]byte, error) {
	if s.cfg.Auth == nil {
		return nil, nil
	}
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		data, err := os.ReadFile(s.cfg.Auth.CredentialsFile)
		line, _, _ := strings.Cut(string(data), "\n")
		line = strings.TrimSpace(line)
		switch {
		case err != nil:
			err = fmt.Errorf("cannot read the credentials: %w", err)
		case !strings.Contains(line, ":"):
			err = fmt.Errorf("cannot use the credentials in %q; want user:password", s.cfg.Auth.CredentialsFile)
		default:
			return []byte(line), nil
		}
		s.failed(err)
		s.logger.Error("zookeeper session cannot start yet", zap.Error(err), zap.Duration("retry_in", pause))
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// dial is the library's dialer.
func (s *Session) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := s.dialer.dial(ctx, address)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		s.counts.dialFailures.Add(1)
		s.failed(err)
		return nil, err
	}
	s.mu.Lock()
	s.lib.socket = conn
	s.state.Server = address
	s.mu.Unlock()
	if ctx.Err() != nil { // the session is closing, and may have looked for a connection just before
		return nil, errors.Join(ctx.Err(), conn.Close())
	}
	return conn, nil
}

// dropConnection closes the connection, if there is one. The session survives it.
func (s *Session) dropConnection(why error) {
	s.mu.Lock()
	socket := s.lib.socket
	s.mu.Unlock()
	if socket != nil {
		socket.drop(why)
	}
}

func (s *Session) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.LastError = err.Error()
}
