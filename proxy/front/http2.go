package front

import (
	"errors"
	"strings"
	"time"

	"drover/exchange"
	"drover/invalid"
	"drover/proxy/front/h2"
)

// HTTP2Config is the `http2` block of a listener.
type HTTP2Config struct {
	// Disabled leaves a listener with HTTP/1.1 alone. Default false: HTTP/2 is spoken
	// where TLS agrees on it (ALPN), and in clear text to clients that begin with it.
	Disabled bool `yaml:"disabled"`
	// Only leaves a listener with HTTP/2 alone, as for gRPC. Default false.
	Only bool `yaml:"only"`
	// MaxStreams bounds the requests that run on one connection at the same time; what
	// is over it is refused so that the client may send it again. Default 128.
	MaxStreams int `yaml:"max_streams"`
}

// SetDefaults fills in the defaults.
func (c *HTTP2Config) SetDefaults() { c.MaxStreams = 128 }

// Validate reports what is wrong with the block itself.
func (c *HTTP2Config) Validate() error {
	if c.Only && c.Disabled {
		return invalid.Fieldf("only", "got true beside disabled: true; want one of the two")
	}
	if c.MaxStreams < 1 || c.MaxStreams > maxStreams {
		return invalid.Fieldf("max_streams", "got %d; want 1 to %d", c.MaxStreams, maxStreams)
	}
	return nil
}

const maxStreams = 10000

// errPreface ends fasthttp's part in a connection whose client speaks HTTP/2.
var errPreface = errors.New("the client speaks HTTP/2")

// serveH2 serves a connection whose client speaks HTTP/2.
func (f *Front) serveH2(c *conn) error {
	served := h2.New(&h2Stream{c}, h2.Options{
		Logger:  f.opts.Logger,
		Handler: f.handler,
		HSTS:    c.hsts,
		AltSvc:  c.altSvc,
		Check: func(req *exchange.Request) (int, exchange.Reason) {
			if status, reason := checkPseudo(req); status != 0 || !c.misdirects(req.Host) {
				return status, reason
			}
			return refusals[misdirected].status, refusals[misdirected].reason
		},
		Reject: func(ex *exchange.Exchange) {
			if f.opts.OnReject != nil {
				f.opts.OnReject(ex)
			}
		},
		Address: c.address,
		Limits:  f.h2Limits,
		Hasten:  c.wire.hasten,
		Gone:    c.wire.gone,
		Broke:   c.broke,
	})
	c.phase = phaseFrames
	c.wire.frames(served.ReadLimit)
	f.mu.Lock()
	c.shutdown, c.tunnels = served.Shutdown, served.HasTunnels
	f.mu.Unlock()
	if f.draining() {
		served.Shutdown()
	}
	err := served.Serve()
	f.mu.Lock()
	c.shutdown, c.tunnels = nil, nil
	f.mu.Unlock()
	c.linger = err != nil // the client should find the reason before a reset.
	_ = c.Close()
	return err
}

// h2Limits are the listener's limits as HTTP/2 has them.
func (f *Front) h2Limits() h2.Limits {
	s := f.settings.Load()
	return h2.Limits{
		HeaderTimeout: s.headerTimeout, BodyIdle: s.bodyIdle, MinBodyRate: s.minBodyRate, WriteIdle: s.writeIdle, KeepAlive: s.keepAlive,
		MaxStreams: s.maxStreams, MaxHeader: s.maxHeader, MaxFields: s.maxFields, MaxBody: s.maxBody,
	}
}

// checkPseudo holds requests of HTTP/2 and HTTP/3 to the rules of HTTP/1.1 for method,
// target and host.
func checkPseudo(req *exchange.Request) (status int, reason exchange.Reason) {
	no := accepted
	switch method := string(req.Method); {
	case method == "CONNECT", method == "TRACE":
		no = badMethod
	case !validHost(req.Host), !validTarget(req.Target):
		no = badRequest
	case req.Target[0] != '/' && (string(req.Target) != "*" || method != "OPTIONS"):
		no = badRequest
	}
	for _, c := range req.Method {
		if byteClass[c]&isToken == 0 {
			no = badRequest
		}
	}
	if expect := req.Header.Get("expect"); no == accepted && expect != nil && !strings.EqualFold(string(expect), "100-continue") {
		no = badExpect
	}
	return refusals[no].status, refusals[no].reason
}

// h2Stream is a connection's byte stream, with what was read ahead of it.
type h2Stream struct{ *conn }

// Read implements net.Conn.
func (s *h2Stream) Read(p []byte) (int, error) {
	if len(s.preface) > 0 {
		n := copy(p, s.preface)
		s.preface = s.preface[n:]
		return n, nil
	}
	return s.stream.Read(p)
}

// Write implements net.Conn.
func (s *h2Stream) Write(p []byte) (int, error) { return s.stream.Write(p) }

// SetWriteDeadline implements net.Conn.
func (s *h2Stream) SetWriteDeadline(t time.Time) error { return s.wire.SetWriteDeadline(t) }

// beginsH2 reports whether what a client sent first is HTTP/2's preface, or may become
// it.
func beginsH2(p []byte) (yes, maybe bool) {
	n := min(len(p), len(h2.Preface))
	same := string(p[:n]) == h2.Preface[:n]
	return same && n == len(h2.Preface), same && n > 0
}

// sniff looks at a connection's first bytes: of HTTP/2's preface, which is no request,
// fasthttp must not see any.
func (c *conn) sniff(p []byte, n int, err error) (int, error) {
	yes, maybe := beginsH2(p[:n])
	for !yes && maybe && err == nil && n < len(p) {
		var more int
		more, err = c.receive(p[n:])
		n += more
		yes, maybe = beginsH2(p[:n])
	}
	if yes {
		c.preface = append([]byte(nil), p[:n]...)
		c.parked = true
		return 0, errPreface
	}
	if err != nil {
		c.pending = err
	}
	return n, nil
}
