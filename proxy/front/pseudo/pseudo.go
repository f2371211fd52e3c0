// Package pseudo has what HTTP/2 and HTTP/3 have in common: requests whose first line is
// made of pseudo-header fields, upgrades that are extended CONNECTs, and names in lower
// case.
package pseudo

import (
	"crypto/rand"
	"encoding/base64"

	"drover/exchange"
)

// AsUpgrade turns an extended CONNECT (RFC 8441, RFC 9220) into the WebSocket handshake
// that it stands for.
func AsUpgrade(req *exchange.Request) {
	req.Method, req.Upgrade = []byte("GET"), "websocket"
	req.ContentLength = exchange.NoBody
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails.
	if !req.Header.Has("Sec-WebSocket-Key") {
		req.Header.Add("Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(nonce[:]))
	}
}

// WithoutHandshake leaves out of a 101 what these versions have no use for.
func WithoutHandshake(header exchange.Header) exchange.Header {
	kept := make(exchange.Header, 0, len(header))
	for _, f := range header {
		if !exchange.EqualFold(f.Name, "Sec-WebSocket-Accept") {
			kept = append(kept, f)
		}
	}
	return kept
}

// LikesLength names the methods whose requests say so when they have no body (RFC
// 9110, section 8.6).
func LikesLength(method []byte) bool {
	switch string(method) {
	case "POST", "PUT", "PATCH":
		return true
	}
	return false
}
