package exchange

import (
	"io"
	"net"
	"net/netip"
	"time"
)

// Body lengths that are not a number of bytes.
const (
	// LengthUnknown is a body whose end its framing tells: chunked in HTTP/1.1,
	// the end of the stream in HTTP/2, the end of the connection in a response to
	// an HTTP/1.0 request.
	LengthUnknown = -1
	// NoBody is a message that has no body at all, as opposed to one of 0 bytes
	// with a Content-Length field.
	NoBody = -2
)

// Request is what a client asked for, as it stood on the wire.
type Request struct {
	Method []byte
	// Target is the request target byte for byte as the client sent it in
	// origin-form ("/a//b?x=%2F"), or "*". A front turns absolute-form into
	// origin-form and sets Host from it (RFC 9112, section 3.2.2).
	Target []byte
	// Host is the authority the request is for, as sent, "" only for HTTP/1.0
	// without a Host field.
	Host []byte
	// ProtoMajor is the version of HTTP the client speaks: 1, 2 or 3. 0 stands for 1.
	ProtoMajor int
	// ProtoMinor is the 0 or 1 of HTTP/1.x; 0 for later versions.
	ProtoMinor int
	// Header holds all fields, hop-by-hop ones, Host and framing included.
	Header Header
	// ContentLength is the body's size in bytes, LengthUnknown or NoBody.
	ContentLength int64
	// Body is nil when there is no body. It ends with io.EOF only when the message
	// was complete; a cut body gives io.ErrUnexpectedEOF.
	Body io.Reader
	// Buffered is the whole body when the front has it in memory already; Body then
	// reads the same bytes. It lets a request be sent in one write, and again.
	Buffered []byte
	// Trailer holds the trailer fields once Body has given io.EOF.
	Trailer func() Header
	// Upgrade is the protocol the client wants to switch to ("websocket"), "" for
	// none. Only then may Client.Hijack be called.
	Upgrade string
}

// Response is an answer on its way to the client.
type Response struct {
	Status int
	// Reason is the reason phrase; nil lets the front choose the standard one.
	Reason []byte
	// Header holds the fields in order. A front writes them as they are, less the
	// hop-by-hop and framing fields that it decides itself.
	Header Header
	// ContentLength is the body's size in bytes, LengthUnknown or NoBody. For HEAD
	// and 304 it is what the Content-Length field said, and no body follows.
	ContentLength int64
	// Trailer holds the trailer fields once the body is complete, nil for none.
	Trailer func() Header
	// CloseClient asks the front to close the client's connection afterwards.
	CloseClient bool
}

// BodyAllowed reports whether a response of this status to this method carries body
// bytes on the wire (RFC 9112, section 6.3).
func BodyAllowed(method []byte, status int) bool {
	switch {
	case status < 200, status == 204, status == 304:
		return false
	default:
		return string(method) != "HEAD"
	}
}

// Client is the client's end of an exchange; each front implements it.
//
// It has more than three methods since it is one thing, a connection that is
// written in order, and every front must supply all of it.
type Client interface {
	// Inform sends an interim response (1xx, not 101) at once. It is a no-op for
	// clients that cannot take one (HTTP/1.0), and so is a 100 for one that waits for
	// it: when the body is asked for is the front's to say.
	Inform(*Response) error
	// Start sends the head of the final response. That of a body of known length
	// may wait for the first body bytes as they do. The front keeps r until the
	// exchange ends, and asks its Trailer then.
	Start(r *Response) error
	// Write sends body bytes. They may wait in a buffer until Flush, or until the
	// exchange ends.
	io.Writer
	// Flush passes on all that was written.
	Flush() error
	// Gone reports whether the client has closed its side of the connection, as
	// far as can be told without reading from it. It is cheap enough to be
	// asked a few times a second during a wait.
	Gone() bool
	// AbortBody makes a blocked or later read of Request.Body fail at once. Any
	// goroutine may call it. The connection closes after the exchange.
	AbortBody()
	// Hijack hands over the connection for a tunnel, after Start has sent the head
	// of a 101. Reads give first what the client had already sent. The front
	// closes it when the exchange ends.
	Hijack() (net.Conn, error)
}

// A Breaker is a Client that knows why its connection is of no use any more. Every
// front's is one.
type Breaker interface {
	// Broke gives ReasonClientGone where it was the client that ended it.
	Broke() Reason
}

// Windows are the flow control of a client that says how much of a body it takes: what it
// leaves no room for need not be in memory.
type Windows interface {
	// Room gives how many body bytes would go out at once if they were written now.
	Room() int
	// AwaitRoom passes on all that was written, the head too, and waits until there is
	// room. It fails where Write would.
	AwaitRoom() error
}

// Exchange is one request and its response on their way through drover. It belongs
// to one goroutine. A front fills the first group, the path the second.
type Exchange struct {
	// The client's part, immutable once the front has filled it.
	Request  Request
	Client   Client
	Windows  Windows        // the Client's, nil for one that has none
	Remote   netip.AddrPort // the client's address
	Local    netip.AddrPort // the listener's address of this connection
	Secure   bool           // the client came over TLS
	Listener string         // the listener's name
	Start    time.Time      // when the request's head was complete
	// Left is closed when the client has gone, by a front that learns of it at once. It is
	// nil for others, whose Client.Gone is to be asked now and then.
	Left <-chan struct{}

	// The path's part.
	Result Result
	// ClientAddr is the address that the client has by the word of trusted proxies;
	// Source reads it. The path decides it once, first of all.
	ClientAddr netip.Addr
	// TrustedPeer says that Remote is a proxy whose word about its client counts.
	TrustedPeer bool
	// RequestID names the request in logs everywhere, nil for no name.
	RequestID []byte
	// Done, unless nil, is what the front calls when the answer is complete or given up:
	// until then it reads the Response, its fields and its trailers.
	Done func()
}

// Source is the address that a request counts as coming from, in limits, hashes and
// logs: ClientAddr, or Remote's where the path has not decided. IPv4 is never mapped,
// and it is the zero Addr for what has no IP address.
func (ex *Exchange) Source() netip.Addr {
	if ex.ClientAddr.IsValid() {
		return ex.ClientAddr
	}
	return ex.Remote.Addr().Unmap()
}

// Result is what became of an exchange, for logs and metrics.
type Result struct {
	Status   int    // sent to the client; 0 when nothing was
	Reason   Reason // why drover answered itself or broke off; ReasonNone otherwise
	User     string // who the client is, where drover has made sure of it
	Route    string
	Upstream string
	Server   string // the last server tried, "" for none
	// ServerStatus is that server's status, 0 without one.
	ServerStatus int
	Attempts     int
	Received     int64         // body bytes from the client
	Sent         int64         // body bytes to the client
	HeaderTime   time.Duration // from the last pick to the response head
	// Aborted tells the front that the response on the wire is incomplete: it must
	// close the connection so that the client sees it cut, never a clean end.
	Aborted bool
}
