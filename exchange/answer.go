package exchange

import (
	"bytes"
	"net/http"
	"strconv"
)

// Answer makes the response that drover gives itself when it does not pass a
// server's on: an error, with a body that names the status and nothing of drover's
// insides. The body is JSON when accept, the request's Accept field, names JSON
// before any kind of text. Not for statuses that carry no body.
func Answer(status int, reason Reason, accept []byte) (*Response, []byte) {
	text := http.StatusText(status)
	if text == "" {
		text = "Error"
	}
	body := strconv.AppendInt(nil, int64(status), 10)
	contentType := "text/plain; charset=utf-8"
	if prefersJSON(accept) {
		contentType = "application/json"
		body = append(append([]byte(`{"status":`), body...), `,"error":"`+text+"\"}\n"...)
	} else {
		body = append(body, " "+text+"\n"...)
	}
	r := &Response{Status: status, ContentLength: int64(len(body)), Header: make(Header, 0, 4)}
	r.Header.Add("Content-Type", contentType)
	r.Header.Add("Content-Length", strconv.Itoa(len(body)))
	// 404, 405 and 414 may be cached without a word to the contrary (RFC 9110,
	// section 15.1); what is wrong here and now says nothing about later.
	r.Header.Add("Cache-Control", "no-store")
	if extra, ok := answerFields[reason]; ok {
		r.Header.Add(extra[0], extra[1])
	}
	return r, body
}

// answerFields holds the field that an answer has for its reason.
var answerFields = map[Reason][2]string{
	// RFC 9110, section 15.5.6 demands it.
	ReasonMethod: {"Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"},
	// It passes soon: clients that heed the field then spread their next try.
	ReasonClientConns:  {"Retry-After", "1"},
	ReasonOverload:     {"Retry-After", "1"},
	ReasonQueueFull:    {"Retry-After", "1"},
	ReasonQueueTimeout: {"Retry-After", "1"},
	ReasonAuthFailed:   {"Retry-After", "1"},
}

// prefersJSON looks for the first media type that it knows, in the order of the
// field. That is what clients mean who ask for JSON, and browsers name text first.
func prefersJSON(accept []byte) bool {
	for len(accept) > 0 {
		var item []byte
		item, accept, _ = bytes.Cut(accept, []byte(","))
		item, _, _ = bytes.Cut(item, []byte(";"))
		item = bytes.ToLower(bytes.TrimSpace(item))
		switch {
		case bytes.Equal(item, []byte("application/json")), bytes.HasSuffix(item, []byte("+json")):
			return true
		case bytes.HasPrefix(item, []byte("text/")), bytes.Equal(item, []byte("*/*")):
			return false
		}
	}
	return false
}
