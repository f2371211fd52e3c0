package proxy

import (
	"math/rand/v2"
	"strconv"
	"time"
	"unicode/utf8"

	"drover/exchange"
)

// accessLogOff is the format that logs nothing.
const accessLogOff = "off"

// accessFormats is the one table of access log formats.
var accessFormats = map[string]func(dst []byte, e *entry) []byte{
	"combined": appendCombined,
	"json":     appendJSON,
}

// entry is one line of the access log.
type entry struct {
	ex     *exchange.Exchange
	at     time.Time
	status int
	took   time.Duration
}

// Log writes the line of a finished exchange, if its format and sampling want one.
func (l *AccessLog) Log(cfg AccessLogConfig, ex *exchange.Exchange, status int, took time.Duration) {
	format := accessFormats[cfg.Format]
	if format == nil {
		return
	}
	sampled := cfg.Sample >= 1 || ex.Result.Reason != exchange.ReasonNone || status >= 500 || rand.Float64() < cfg.Sample
	if !sampled {
		return
	}
	l.write(func(dst []byte) []byte {
		return append(format(dst, &entry{ex: ex, at: ex.Start.Add(took), status: status, took: took}), '\n')
	})
}

// appendCombined writes nginx's and Apache's combined line, and behind it: listener,
// route, upstream, server, the server's status, attempts, seconds to the server's
// head, seconds in all, reason code, and the request's name where it has one.
func appendCombined(dst []byte, e *entry) []byte {
	ex, rs := e.ex, &e.ex.Result
	dst = ex.Source().AppendTo(dst)
	dst = append(dst, " - "...)
	dst = appendOr(dst, ex.Result.User)
	dst = append(dst, " ["...)
	dst = e.at.AppendFormat(dst, "02/Jan/2006:15:04:05 -0700")
	dst = append(dst, `] "`...)
	dst = appendRequestLine(dst, &ex.Request)
	dst = append(dst, `" `...)
	dst = strconv.AppendInt(dst, int64(e.status), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, rs.Sent, 10)
	for _, name := range [...]string{"Referer", "User-Agent"} {
		dst = append(dst, ` "`...)
		if value := ex.Request.Header.Get(name); len(value) > 0 {
			dst = appendEscaped(dst, value)
		} else {
			dst = append(dst, '-')
		}
		dst = append(dst, '"')
	}
	for _, text := range [...]string{ex.Listener, rs.Route, rs.Upstream, rs.Server} {
		dst = append(dst, ' ')
		dst = appendOr(dst, text)
	}
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(rs.ServerStatus), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(rs.Attempts), 10)
	dst = append(dst, ' ')
	dst = appendSeconds(dst, rs.HeaderTime)
	dst = append(dst, ' ')
	dst = appendSeconds(dst, e.took)
	dst = append(dst, ' ')
	dst = appendOr(dst, string(rs.Reason))
	if ex.RequestID != nil {
		dst = appendEscaped(append(dst, ' '), ex.RequestID)
	}
	return dst
}

// appendRequestLine writes as much of a request line as is known.
func appendRequestLine(dst []byte, r *exchange.Request) []byte {
	if len(r.Method) == 0 && len(r.Target) == 0 {
		return append(dst, '-')
	}
	dst = appendEscaped(dst, r.Method)
	if len(r.Target) > 0 {
		dst = append(dst, ' ')
		dst = appendEscaped(dst, loggedTarget(r.Target))
	}
	if r.ProtoMajor > 1 {
		dst = append(dst, " HTTP/"...)
		return append(strconv.AppendInt(dst, int64(r.ProtoMajor), 10), ".0"...)
	}
	if r.ProtoMinor >= 0 {
		dst = append(dst, " HTTP/1."...)
		dst = strconv.AppendInt(dst, int64(r.ProtoMinor), 10)
	}
	return dst
}

// appendOr writes a name, which has no quotes around it: a blank in it would make the
// fields behind it others.
func appendOr(dst []byte, text string) []byte {
	if text == "" {
		return append(dst, '-')
	}
	for i := range len(text) {
		if c := text[i]; c == ' ' {
			dst = append(dst, `\x20`...)
		} else {
			dst = appendEscapedByte(dst, c)
		}
	}
	return dst
}

func appendSeconds(dst []byte, d time.Duration) []byte {
	return strconv.AppendFloat(dst, d.Seconds(), 'f', 6, 64)
}

const hexDigits = "0123456789ABCDEF"

// appendEscaped writes foreign bytes as nginx does: quotes, backslashes and whatever
// does not print become \xHH, so that no client can forge a line.
func appendEscaped(dst, text []byte) []byte {
	for _, c := range text {
		dst = appendEscapedByte(dst, c)
	}
	return dst
}

func appendEscapedByte(dst []byte, c byte) []byte {
	if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
		return append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
	}
	return append(dst, c)
}

// appendJSON writes one object. Cookies and credentials are not in it.
func appendJSON(dst []byte, e *entry) []byte {
	ex, rs := e.ex, &e.ex.Result
	text := func(key string, value []byte) {
		dst = append(append(append(dst, ",\""...), key...), "\":"...)
		dst = appendJSONString(dst, value)
	}
	number := func(key string, value int64) {
		dst = append(append(append(dst, ",\""...), key...), "\":"...)
		dst = strconv.AppendInt(dst, value, 10)
	}
	seconds := func(key string, value time.Duration) {
		dst = append(append(append(dst, ",\""...), key...), "\":"...)
		dst = appendSeconds(dst, value)
	}
	dst = append(dst, `{"time":"`...)
	dst = e.at.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000Z07:00")
	dst = append(dst, '"')
	text("client", []byte(ex.Source().String()))
	if ex.TrustedPeer {
		text("peer", []byte(ex.Remote.Addr().Unmap().String()))
	}
	text("user", []byte(rs.User))
	text("listener", []byte(ex.Listener))
	text("method", ex.Request.Method)
	text("host", withoutUserinfo(ex.Request.Host, 0))
	text("target", loggedTarget(ex.Request.Target))
	number("status", int64(e.status))
	number("received", rs.Received)
	number("sent", rs.Sent)
	seconds("duration", e.took)
	text("route", []byte(rs.Route))
	text("upstream", []byte(rs.Upstream))
	text("server", []byte(rs.Server))
	number("server_status", int64(rs.ServerStatus))
	seconds("server_header_time", rs.HeaderTime)
	number("attempts", int64(rs.Attempts))
	text("reason", []byte(rs.Reason))
	text("referer", ex.Request.Header.Get("Referer"))
	text("user_agent", ex.Request.Header.Get("User-Agent"))
	if ex.RequestID != nil {
		text("request_id", ex.RequestID)
	}
	return append(dst, '}')
}

// appendJSONString quotes foreign bytes (RFC 8259, section 7); what is no UTF-8
// becomes the replacement character.
func appendJSONString(dst, text []byte) []byte {
	dst = append(dst, '"')
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
		text = text[size:]
	}
	return append(dst, '"')
}
