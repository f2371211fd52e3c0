// Package format decodes registry entries: one pure function for each way in which
// services write themselves down.
package format

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"drover/backend"
)

// A Decoder reads one entry: the path of a znode or a file, of which the last element
// is the entry's name, and its content. It is pure. An entry that is valid and does
// not serve, such as one with status DEAD, gives no servers and no error. Weight 0
// means drain; that is decided here and nowhere else.
type Decoder func(path string, data []byte) ([]backend.Server, error)

// decoders is the one table of formats.
var decoders = map[string]Decoder{
	"auto":      decodeAuto,
	"curator":   decodeCurator,
	"dubbo":     decodeDubbo,
	"serverset": decodeServerSet,
	"nerve":     decodeNerve,
	"plain":     decodePlain,
}

// Lookup gives the decoder of a format.
func Lookup(name string) (Decoder, error) {
	if d, ok := decoders[name]; ok {
		return d, nil
	}
	return nil, fmt.Errorf("got format %q; want one of %s", name, strings.Join(Names(), ", "))
}

// Names lists the formats.
func Names() []string {
	names := make([]string, 0, len(decoders))
	for name := range decoders {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// NameOnly reports whether an entry's name is the whole record, so that its content
// need not be read: Dubbo's interface level and Nerve's base64 names.
func NameOnly(name string) bool {
	if strings.HasPrefix(name, nerveNamePrefix) {
		return true
	}
	_, err := dubboURL(name)
	return err == nil
}

// base gives an entry's name.
func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// newServer checks what an entry said and makes a server of it.
func newServer(path, scheme, host string, port int64) (backend.Server, error) {
	host, err := canonicalHost(host)
	if err != nil {
		return backend.Server{}, err
	}
	if port < 1 || port > 65535 {
		return backend.Server{}, fmt.Errorf("got port %d; want 1 to 65535", port)
	}
	return backend.Server{
		ID:     backend.ID{Scheme: scheme, Host: host, Port: uint16(port)},
		Weight: backend.DefaultWeight,
		Origin: path,
	}, nil
}

// maxHost is the longest DNS name (RFC 1035, section 2.3.4).
const maxHost = 253

// canonicalHost gives the one spelling of a host: one server written in two ways must
// not become two servers.
func canonicalHost(text string) (string, error) {
	host := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "["), "]")
	// A zone ("fe80::1%eth0") may hold any text and means something on one host only.
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		return a.Unmap().String(), nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" {
		return "", fmt.Errorf("got no host; want a name or an address")
	}
	if len(host) > maxHost {
		return "", fmt.Errorf("got a host of %d bytes; want at most %d", len(host), maxHost)
	}
	for _, c := range host {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return "", fmt.Errorf("got host %.64q; want a name or an address", text)
		}
	}
	return host, nil
}

// setWeight takes a weight from a number that an entry holds, in whatever spelling.
func setWeight(s *backend.Server, text string) error {
	w, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(w >= 0) {
		return fmt.Errorf("got weight %.32q; want a number of 0 or more", text)
	}
	switch {
	case w == 0:
		s.Weight = 0
	case w < 1:
		s.Weight = 1 // a small share is not none
	default:
		s.Weight = int(min(w, backend.MaxWeight))
	}
	return nil
}

// httpSchemes are the protocols that drover speaks to servers, and how.
var httpSchemes = map[string]string{"http": "http", "https": "https", "rest": "http", "tri": "http"}

// decodePlain reads host:port or a URL, from the content where there is any, else from
// the name. Further words are weight=3, zone=a and priority=1.
func decodePlain(path string, data []byte) ([]backend.Server, error) {
	text := strings.TrimSpace(string(data))
	if text == "" {
		text = base(path)
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, fmt.Errorf("got nothing; want host:port")
	}
	scheme, address := "http", words[0]
	if before, after, ok := strings.Cut(address, "://"); ok {
		known, ok := httpSchemes[strings.ToLower(before)]
		if !ok {
			return nil, fmt.Errorf("got scheme %.32q; want http or https", before)
		}
		scheme, address = known, strings.TrimSuffix(after, "/")
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("got %.64q; want host:port", address)
	}
	port, err := strconv.ParseInt(portText, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("got port %.32q; want a number", portText)
	}
	s, err := newServer(path, scheme, host, port)
	if err != nil {
		return nil, err
	}
	for _, word := range words[1:] {
		if err := plainOption(&s, word); err != nil {
			return nil, err
		}
	}
	return []backend.Server{s}, nil
}

func plainOption(s *backend.Server, word string) error {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "weight":
		return setWeight(s, value)
	case "zone":
		s.Zone = value
	case "priority":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fmt.Errorf("got priority %.32q; want a number of 0 or more", value)
		}
		s.Priority = n
	default:
		return fmt.Errorf("got %.64q; want weight=, zone= or priority=", word)
	}
	return nil
}

// decodeAuto recognises an entry by marks that no other format has, most telling
// first: Dubbo's and Nerve's names; in JSON, serviceEndpoint (ServerSet), then
// address with serviceType, sslPort or payload (Curator), then host with port
// (Nerve); what is no JSON is plain.
func decodeAuto(path string, data []byte) ([]backend.Server, error) {
	name := base(path)
	switch {
	case strings.HasPrefix(name, nerveNamePrefix):
		return decodeNerve(path, data)
	case isDubboName(name):
		return decodeDubbo(path, data)
	}
	text := strings.TrimSpace(string(data))
	if !strings.HasPrefix(text, "{") {
		return decodePlain(path, data)
	}
	object, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	var found []jsonShape
	for _, shape := range jsonShapes {
		if !slices.ContainsFunc(shape.keys, func(key string) bool { return !object.has(key) }) {
			found = append(found, shape)
		}
	}
	switch len(found) {
	case 1:
		return found[0].decode(path, data)
	case 0:
		return nil, fmt.Errorf("got JSON with keys %s; want serviceEndpoint (serverset), address (curator) or host and port (nerve)", object.keys())
	}
	return nil, fmt.Errorf("got JSON with keys %s, which reads as %s and as %s; want one, or a format that names it", object.keys(), found[0].name, found[1].name)
}

// jsonShape tells an entry's format by the keys that it has.
type jsonShape struct {
	name   string
	keys   []string
	decode Decoder
}

var jsonShapes = []jsonShape{
	{"serverset", []string{"serviceEndpoint"}, decodeServerSet},
	{"curator", []string{"address"}, decodeCurator},
	{"nerve", []string{"host", "port"}, decodeNerve},
}

func isDubboName(name string) bool {
	_, err := dubboURL(name)
	return err == nil
}

// dubboURL reads a name that is a percent-encoded URL.
func dubboURL(name string) (*url.URL, error) {
	if !strings.Contains(name, "%3A%2F%2F") && !strings.Contains(name, "%3a%2f%2f") {
		return nil, fmt.Errorf("got name %.64q; want a percent-encoded URL", name)
	}
	text, err := url.QueryUnescape(name)
	if err != nil {
		return nil, fmt.Errorf("cannot decode name %.64q: %w", name, err)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("cannot parse URL in name %.64q: %w", name, err)
	}
	return u, nil
}
