package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// message is what one message says, in the simplest reading of RFC 9112 that takes
// nothing but what that allows.
type message struct {
	method, target, host string // of a request
	status               int    // of a response
	reason               string
	interim              []*message
	fields, trailers     []pair // in their order
	body                 string // as far as it came
	h2                   bool   // it was read from frames: names are in lower case
}

type pair struct{ name, value string }

// values gives what a message says under a name.
func values(fields []pair, name string) (all []string) {
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			all = append(all, f.value)
		}
	}
	return all
}

var (
	errBad = errors.New("not a message")
	errCut = errors.New("not a whole message")
)

const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func isStrictToken(s string) bool { return s != "" && strings.Trim(s, token) == "" }

// readStrict reads one request.
func readStrict(r *bufio.Reader) (*message, error) {
	line, err := strictLine(r)
	for ; err == nil && line == ""; line, err = strictLine(r) { // RFC 9112, section 2.2
	}
	if err != nil {
		return nil, err
	}
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isStrictToken(parts[0]) || parts[1] == "" || parts[2] != "HTTP/1.1" {
		return nil, fmt.Errorf("%w: line %q", errBad, line)
	}
	m := &message{method: parts[0], target: parts[1]}
	if m.fields, err = strictFields(r); err != nil {
		return nil, err
	}
	hosts := values(m.fields, "Host")
	if len(hosts) != 1 {
		return nil, fmt.Errorf("%w: hosts %q", errBad, hosts)
	}
	m.host = hosts[0]
	_, err = m.framed(r)
	return m, err
}

// readStrictAnswer reads a response and what precedes it. It gives what has come of one
// that is cut.
func readStrictAnswer(r *bufio.Reader, method string) (*message, error) {
	m := &message{}
	for {
		line, err := strictLine(r)
		if err != nil {
			return m, errors.Join(errCut, err)
		}
		version, rest, _ := strings.Cut(line, " ")
		code, reason, _ := strings.Cut(rest, " ")
		status, err := strconv.ParseUint(code, 10, 16)
		if err != nil || len(code) != 3 || version != "HTTP/1.1" && version != "HTTP/1.0" {
			return m, fmt.Errorf("%w: line %q", errBad, line)
		}
		fields, err := strictFields(r)
		if err != nil {
			return m, err
		}
		if status < 200 && status != 101 {
			m.interim = append(m.interim, &message{status: int(status), reason: reason, fields: fields})
			continue
		}
		m.status, m.reason, m.fields = int(status), reason, fields
		if method == "HEAD" || status == 101 || status == 204 || status == 304 {
			return m, nil
		}
		framed, err := m.framed(r)
		if err != nil || framed {
			return m, err
		}
		body, err := io.ReadAll(r)
		if m.body = string(body); err != nil {
			err = errors.Join(errCut, err)
		}
		return m, err
	}
}

// framed reads the body where the head says how long it is.
func (m *message) framed(r *bufio.Reader) (bool, error) {
	lengths, codings := values(m.fields, "Content-Length"), values(m.fields, "Transfer-Encoding")
	switch {
	case len(lengths)+len(codings) > 1:
		return true, fmt.Errorf("%w: lengths %q, codings %q", errBad, lengths, codings)
	case len(codings) == 1 && !strings.EqualFold(codings[0], "chunked"):
		return true, fmt.Errorf("%w: coding %q", errBad, codings[0])
	case len(codings) == 1:
		return true, m.chunks(r)
	case len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 31)
		if err != nil || lengths[0][0] == '+' {
			return true, fmt.Errorf("%w: length %q", errBad, lengths[0])
		}
		body := make([]byte, n)
		got, err := io.ReadFull(r, body)
		if m.body = string(body[:got]); err != nil {
			return true, errCut
		}
		return true, nil
	}
	return false, nil
}

// strictLine reads up to CRLF, which alone ends a line.
func strictLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	switch {
	case err != nil && line == "":
		return "", err
	case err != nil:
		return "", errors.Join(errCut, err)
	case !strings.HasSuffix(line, "\r\n"):
		return "", fmt.Errorf("%w: line end of %q", errBad, line)
	}
	line = line[:len(line)-2]
	for i := range len(line) {
		if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", fmt.Errorf("%w: control in %q", errBad, line)
		}
	}
	return line, nil
}

func strictFields(r *bufio.Reader) (fields []pair, err error) {
	for {
		line, err := strictLine(r)
		if err != nil && !errors.Is(err, errBad) {
			err = errors.Join(errCut, err)
		}
		if err != nil || line == "" {
			return fields, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isStrictToken(name) {
			return nil, fmt.Errorf("%w: field %q", errBad, line)
		}
		fields = append(fields, pair{name, strings.Trim(value, " \t")})
	}
}

func (m *message) chunks(r *bufio.Reader) error {
	for {
		line, err := strictLine(r)
		if err != nil && !errors.Is(err, errBad) {
			err = errors.Join(errCut, err)
		}
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimRight(size, " \t"), 16, 31)
		if err != nil || strings.ContainsAny(size[:1], "+-") {
			return fmt.Errorf("%w: chunk size %q", errBad, line)
		}
		if n == 0 {
			break
		}
		data := make([]byte, n+2)
		got, err := io.ReadFull(r, data)
		m.body += string(data[:min(got, int(n))])
		if err != nil {
			return errCut
		}
		if string(data[n:]) != "\r\n" {
			return fmt.Errorf("%w: chunk end %q", errBad, data[n:])
		}
	}
	var err error
	m.trailers, err = strictFields(r)
	return err
}

// neverNamed are the fields that Connection cannot take away, beside those that begin
// with "content-": they are for all recipients (RFC 9110, section 7.6.1).
var neverNamed = []string{"authorization", "cache-control", "cookie", "date", "host", "set-cookie", "trailer", "via"}

// endToEnd gives the fields of a message as "Name: value", less those that Connection
// names, and others, told in lower case. Fold has names in lower case and one cookie, as
// HTTP/2 may.
func endToEnd(fields []pair, fold bool, without func(name string) bool) []string {
	var named []string
	for _, list := range values(fields, "Connection") {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if !slices.Contains(neverNamed, name) && !strings.HasPrefix(name, "content-") {
				named = append(named, name)
			}
		}
	}
	lines := []string{}
	cookie := -1
	for _, f := range fields {
		name := strings.ToLower(f.name)
		if slices.Contains(named, name) || without(name) {
			continue
		}
		switch {
		case !fold:
			name = f.name
		case name == "cookie" && cookie >= 0: // RFC 9113, section 8.2.3
			lines[cookie] += "; " + f.value
			continue
		case name == "cookie":
			cookie = len(lines)
		}
		lines = append(lines, name+": "+f.value)
	}
	return lines
}
