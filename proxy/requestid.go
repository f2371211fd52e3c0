package proxy

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"drover/exchange"
)

// RequestIDOptions say how a listener names requests. The zero value does not.
type RequestIDOptions struct {
	Header      []byte // the field; nil for no names
	KeepTrusted bool   // keep what trusted proxies say
	KeepAlways  bool   // keep what anyone says
	Answer      bool   // tell the client
}

const (
	idSize    = 32  // hexadecimal digits
	maxIDSize = 128 // of one that is kept
)

// nameRequest gives the request its name. It does not allocate.
func (rq *request) nameRequest(o *RequestIDOptions) {
	if o.Header == nil {
		return
	}
	ex := rq.ex
	if o.KeepAlways || o.KeepTrusted && ex.TrustedPeer {
		if id, ok := sentID(ex.Request.Header, o.Header); ok {
			ex.RequestID = id
			return
		}
	}
	ex.RequestID = appendNewID(rq.id[:0])
}

// sentID gives the name that a client sends. Two are none.
func sentID(h exchange.Header, name []byte) (id []byte, ok bool) {
	for i := range h {
		if !bytes.EqualFold(h[i].Name, name) {
			continue
		}
		if id != nil || !isVisible(h[i].Value) {
			return nil, false
		}
		id = h[i].Value
	}
	return id, id != nil
}

func isVisible(text []byte) bool {
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(text) > 0 && len(text) <= maxIDSize
}

// appendNewID appends 128 random bits. They need not be secret, only others than those
// of every other drover.
func appendNewID(dst []byte) []byte {
	var bits [idSize / 2]byte
	binary.LittleEndian.PutUint64(bits[:], rand.Uint64())
	binary.LittleEndian.PutUint64(bits[8:], rand.Uint64())
	return hex.AppendEncode(dst, bits[:])
}

// sameName compares two field names as servers do that turn names into variables: case
// apart, and "_" as "-".
func sameName(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if nameByte(a[i]) != nameByte(b[i]) {
			return false
		}
	}
	return true
}

func nameByte(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_':
		return '-'
	default:
		return c
	}
}
