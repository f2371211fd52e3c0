package front

import (
	"bytes"
	"crypto/tls"
	"slices"
	"strings"
)

// sessionName marks, among a session's extras, the name that it was made for.
const sessionName = "drover: name "

// bindSessions keeps a session from being resumed under another name than it was made
// for (RFC 6066, section 3): what one site has agreed on says nothing of another.
func bindSessions(config *tls.Config) {
	mark := func(cs tls.ConnectionState) []byte {
		return []byte(sessionName + strings.ToLower(strings.TrimSuffix(cs.ServerName, ".")))
	}
	has := func(s *tls.SessionState, mark []byte) bool {
		return slices.ContainsFunc(s.Extra, func(extra []byte) bool { return bytes.Equal(extra, mark) })
	}
	config.WrapSession = func(cs tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
		if m := mark(cs); !has(s, m) {
			s.Extra = append(s.Extra, m)
		}
		return config.EncryptTicket(cs, s)
	}
	config.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		s, err := config.DecryptTicket(identity, cs)
		if err != nil || s == nil || !has(s, mark(cs)) {
			return nil, err //nolint:nilnil // no session: the handshake is a full one.
		}
		return s, nil
	}
}
