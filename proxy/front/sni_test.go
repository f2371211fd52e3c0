package front

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// named makes a certificate of names alone.
func named(names ...string) *certificate {
	return &certificate{Certificate: tls.Certificate{Leaf: &x509.Certificate{DNSNames: names}}}
}

// FuzzSNI: whatever name a client asks for, the certificate is the first that says that
// name, else the first with the wildcard right above it, else the first of all.
func FuzzSNI(f *testing.F) {
	cs := &certificates{byName: map[string][]*certificate{}}
	for _, names := range [][]string{{"first.test"}, {"*.wild.test", "wild.test"}, {"exact.wild.test"}, {"*.deep.wild.test"}, {"*.wild.test"}} {
		cs.add(named(names...))
	}
	for _, name := range []string{"", ".", "FIRST.test", "first.test.", "a.wild.test", "a.b.wild.test", "exact.wild.test", "*.wild.test", "wild.test", "\x00", "a.deep.wild.test"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := cs.candidates(name)
		asked := strings.ToLower(strings.TrimSuffix(name, "."))
		says := func(want string) *certificate {
			for _, c := range cs.all {
				for _, n := range c.Leaf.DNSNames {
					if n == want {
						return c
					}
				}
			}
			return nil
		}
		want := says(asked)
		if _, parent, ok := strings.Cut(asked, "."); want == nil && ok {
			want = says("*." + parent)
		}
		if want == nil {
			want = cs.all[0]
		}
		if len(got) == 0 || got[0] != want {
			t.Fatalf("%q: got %v; want %v", name, got[0].Leaf.DNSNames, want.Leaf.DNSNames)
		}
	})
}

// hello is a connection on which a client says something and leaves.
type hello struct {
	net.Conn
	in io.Reader
}

func (h *hello) Read(p []byte) (int, error)     { return h.in.Read(p) }
func (*hello) Write(p []byte) (int, error)      { return len(p), nil }
func (*hello) Close() error                     { return nil }
func (*hello) SetDeadline(time.Time) error      { return nil }
func (*hello) SetReadDeadline(time.Time) error  { return nil }
func (*hello) SetWriteDeadline(time.Time) error { return nil }
func (*hello) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*hello) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// FuzzHello: no beginning of TLS hurts, nor is one that breaks off taken for whole.
func FuzzHello(f *testing.F) {
	cert := writeCert(f, "a.test")
	settings, err := LoadTLS(&TLSConfig{Certificates: []Certificate{cert}, MinVersion: "1.2"})
	if err != nil {
		f.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f.Add(clientHello(f, version))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if tls.Server(&hello{in: strings.NewReader(string(text))}, settings.config).Handshake() == nil {
			t.Fatalf("%q is a whole handshake", text)
		}
	})
}

// clientHello gives what a client says first.
func clientHello(f *testing.F, version uint16) []byte {
	f.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		_ = tls.Client(theirs, &tls.Config{ServerName: "a.test", MaxVersion: version}).Handshake() // it is left alone.
		_ = theirs.Close()
	}()
	text := make([]byte, 4096)
	n, err := ours.Read(text)
	if err != nil {
		f.Fatal(err)
	}
	return text[:n]
}
