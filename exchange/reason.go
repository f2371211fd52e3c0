package exchange

// Reason is the short code that says why drover answered a request itself, or broke
// an answer off. It stands in the access log and in metrics, never in what the
// client reads.
type Reason string

// The codes are part of the log format: they may be added to, not changed.
const (
	ReasonNone Reason = ""

	// The client's fault.
	ReasonBadRequest     Reason = "BR" // 400: malformed, nothing reached a server
	ReasonHeaderTooLarge Reason = "HL" // 431
	ReasonBodyTooLarge   Reason = "BL" // 413
	ReasonClientTimeout  Reason = "CT" // 408: head or body did not come in time
	ReasonClientGone     Reason = "CG" // 499 in the log: the client closed first
	ReasonClientSlow     Reason = "CS" // the client took too little of the answer
	ReasonClientConns    Reason = "CC" // 429: connection limit of one client reached
	ReasonExpectation    Reason = "EF" // 417
	ReasonProxyHeader    Reason = "PH" // 400 in the log: no valid PROXY header
	ReasonMethod         Reason = "MN" // 405 or 501: CONNECT, TRACE
	ReasonVersion        Reason = "VN" // 505
	ReasonMisdirected    Reason = "MD" // 421: for a host that the connection was not made for
	// 495 in the log: TLS, the client's certificate was missing or refused.
	ReasonClientCertificate Reason = "CF"

	// Routing and rules.
	ReasonNoRoute     Reason = "NR" // 404
	ReasonRedirect    Reason = "RD" // a redirect rule
	ReasonFixed       Reason = "FR" // a fixed response rule
	ReasonMaxForwards Reason = "MF" // 200: OPTIONS that was to go no further

	// Access to a route.
	ReasonForbidden    Reason = "AF" // 403: the client's address is not let in
	ReasonPreflight    Reason = "AP" // 204: a CORS preflight
	ReasonUnauthorized Reason = "AU" // 401: no valid credentials
	ReasonAuthAnswer   Reason = "AA" // what the service of forward_auth answered
	ReasonAuthFailed   Reason = "AE" // 503: whether to let it in could not be found out

	// The upstream's fault.
	ReasonNoServer     Reason = "NS" // 503: the upstream has no server at all
	ReasonAllDown      Reason = "AD" // 503: it has servers, none is available
	ReasonQueueFull    Reason = "QF" // 503: limits reached and the queue is full
	ReasonQueueTimeout Reason = "QT" // 503: waited in the queue for too long
	ReasonConnect      Reason = "UC" // 502: no connection to a server
	ReasonReset        Reason = "UR" // 502: the connection broke before the answer
	ReasonProtocol     Reason = "UP" // 502: the answer was no valid HTTP
	ReasonTimeout      Reason = "UT" // 504: no answer in time
	ReasonBodyCut      Reason = "UB" // the answer broke off in its body

	// Tunnels that drover ended.
	ReasonTunnelIdle     Reason = "TI" // neither side sent anything
	ReasonTunnelLifetime Reason = "TL" // it lasted for as long as it may

	// drover's own.
	ReasonPanic    Reason = "PN" // 500: a bug; the log has the stack
	ReasonOverload Reason = "OL" // 503: connection limit reached
	ReasonDrained  Reason = "DR" // 503 in the log: broken off, as draining took too long
)
