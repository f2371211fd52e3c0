package front

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"drover/exchange"
	"drover/invalid"
	"drover/proxy/front/h3"
)

// HTTP3Config is the `http3` block of a listener. Its UDP socket has the address and the
// port of the TCP one; both must be let through. A reload that takes the block away lets
// what runs over HTTP/3 finish for drain_timeout, WebSockets too, and then closes the port.
type HTTP3Config struct {
	// MaxStreams bounds the requests that run on one connection at the same time.
	// Default 128.
	MaxStreams int `yaml:"max_streams"`
	// AdvertiseFor is how long clients remember, from their last answer over HTTP/1.1 or
	// HTTP/2 on, that the listener speaks HTTP/3 (Alt-Svc, RFC 7838), in whole seconds.
	// While UDP does not get through, such clients lose time before they fall back. 0s
	// does not tell them. Default 24h.
	AdvertiseFor time.Duration `yaml:"advertise_for"`
	// AdvertisePort is the port that clients are told, for a listener whose port is
	// another one from outside. Default 0: the listener's own.
	AdvertisePort int `yaml:"advertise_port"`
}

// SetDefaults fills in the defaults.
func (c *HTTP3Config) SetDefaults() {
	c.MaxStreams = 128
	c.AdvertiseFor = 24 * time.Hour
}

// Validate reports what is wrong with the block itself.
func (c *HTTP3Config) Validate() error {
	var errs []error
	if c.MaxStreams < 1 || c.MaxStreams > maxStreams {
		errs = append(errs, invalid.Fieldf("max_streams", "got %d; want 1 to %d", c.MaxStreams, maxStreams))
	}
	if c.AdvertiseFor < 0 || c.AdvertiseFor%time.Second != 0 {
		errs = append(errs, invalid.Fieldf("advertise_for", "got %v; want whole seconds, 0s or more", c.AdvertiseFor))
	}
	if c.AdvertisePort < 0 || c.AdvertisePort > 65535 {
		errs = append(errs, invalid.Fieldf("advertise_port", "got %d; want 1 to 65535, or 0 for the listener's own", c.AdvertisePort))
	}
	return errors.Join(errs...)
}

// checkHTTP3 reports what HTTP/3 cannot have beside it.
func (c *Config) checkHTTP3() error {
	switch {
	case c.HTTP3 == nil:
		return nil
	case c.TLS == nil:
		return invalid.Fieldf("http3", "got it on a listener without tls; want a tls block, which HTTP/3 is never without")
	case c.ProxyProtocol != nil:
		return invalid.Fieldf("http3", "got it beside proxy_protocol; want one of the two: UDP carries no PROXY header, and clients' addresses would be lost")
	}
	return nil
}

// altSvc is the value of Alt-Svc for a listener on a port, nil for none.
func (c *HTTP3Config) altSvc(port uint16) []byte {
	if c == nil || c.AdvertiseFor == 0 {
		return nil
	}
	if c.AdvertisePort != 0 {
		port = uint16(c.AdvertisePort) //nolint:gosec // validated.
	}
	value := strconv.AppendUint([]byte(`h3=":`), uint64(port), 10)
	value = append(value, `"; ma=`...)
	return strconv.AppendInt(value, int64(c.AdvertiseFor/time.Second), 10)
}

// altSvc is what the connection's answers say of HTTP/3.
func (c *conn) altSvc() []byte {
	if s := c.front.settings.Load(); s != c.altSvcOf {
		c.altSvcOf, c.altSvcText = s, s.http3.altSvc(c.local.Port())
	}
	return c.altSvcText
}

// HTTP3 serves the connections of an endpoint that was told to use it, by the handler
// and the settings of this Front. Drain ends them too.
func (f *Front) HTTP3() *h3.Server { return f.h3 }

// newH3 makes the Front's side of HTTP/3.
func (f *Front) newH3() *h3.Server {
	return h3.NewServer(h3.Options{
		Logger: f.opts.Logger, Handler: f.handler,
		TLS: f.quicSettings, Admit: f.admitQUIC,
		Suspicious: func() bool {
			s := f.settings.Load()
			return s.maxConns > 0 || s.maxPerClient > 0 // what they count must not be forged.
		},
		Check: func(req *exchange.Request, name string) (int, exchange.Reason) {
			if status, reason := checkPseudo(req); status != 0 || !f.misdirectsQUIC(name, req.Host) {
				return status, reason
			}
			return refusals[misdirected].status, refusals[misdirected].reason
		},
		HSTS:   func() []byte { return f.tls.Load().hsts },
		AltSvc: func(port uint16) []byte { return f.settings.Load().http3.altSvc(port) },
		Reject: func(ex *exchange.Exchange) {
			if f.opts.OnReject != nil {
				f.opts.OnReject(ex)
			}
		},
		Address: func(ex *exchange.Exchange, remote, local netip.AddrPort) {
			ex.Remote, ex.Local, ex.Secure, ex.Listener = remote, local, true, f.name
		},
		Limits: func() h3.Limits {
			s := f.settings.Load()
			limits := h3.Limits{
				HeaderTimeout: s.headerTimeout, BodyIdle: s.bodyIdle, WriteIdle: s.writeIdle, KeepAlive: s.keepAlive,
				MaxHeader: s.maxHeader, MaxFields: s.maxFields, MaxBody: s.maxBody,
				MinBodyRate: s.minBodyRate,
			}
			if s.http3 != nil {
				limits.MaxStreams = s.http3.MaxStreams
			}
			return limits
		},
	})
}

// quicSettings gives the TLS settings of a handshake over QUIC.
func (f *Front) quicSettings(*tls.ClientHelloInfo) (*tls.Config, error) {
	settings := f.tls.Load()
	f.refreshTickets(settings)
	return settings.config, nil
}

// misdirectsQUIC is conn.misdirects for a connection whose client has asked for a name.
func (f *Front) misdirectsQUIC(name string, host []byte) bool {
	settings := f.tls.Load()
	if settings.clients == nil {
		return false
	}
	named := settings.names.covered(name)
	return named != nil && !named(host)
}

// admitQUIC counts a connection over QUIC beside those over TCP.
func (f *Front) admitQUIC(client netip.AddrPort) (leave func(cause error), ok bool) {
	f.mu.Lock()
	no := f.admission.enter(client.Addr(), false, f.settings.Load())
	f.mu.Unlock()
	if no != accepted {
		f.rejectQUIC(client, refusals[no].status, refusals[no].reason)
		return nil, false
	}
	if f.opts.OnConn != nil {
		f.opts.OnConn(1)
	}
	return func(cause error) {
		if clients := f.tls.Load().clients; clients != nil && isClientRefused(cause) {
			f.rejectQUIC(client, statusClientCertificate, exchange.ReasonClientCertificate)
		}
		f.mu.Lock()
		f.admission.leave(client.Addr())
		f.mu.Unlock()
		if f.opts.OnConn != nil {
			f.opts.OnConn(-1)
		}
	}, true
}

// rejectQUIC tells of a connection that was refused before it had a request.
func (f *Front) rejectQUIC(client netip.AddrPort, status int, reason exchange.Reason) {
	if f.opts.OnReject == nil {
		return
	}
	ex := &exchange.Exchange{Request: exchange.Request{ProtoMajor: 3}, Remote: client, Secure: true, Listener: f.name}
	ex.Result.Status, ex.Result.Reason = status, reason
	f.opts.OnReject(ex)
}

// RetireHTTP3 ends the connections over QUIC alone, for a listener that shall speak no
// HTTP/3 any more.
func (f *Front) RetireHTTP3(requests, tunnels context.Context) error {
	return f.unfinished(requests, f.h3.Drain(requests, tunnels))
}
