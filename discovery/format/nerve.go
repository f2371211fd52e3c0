package format

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"drover/backend"
)

// nerveNamePrefix begins a name that holds the whole record:
// base64_<length>_<URL-safe base64>_<sequence>.
const nerveNamePrefix = "base64_"

// decodeNerve reads what Airbnb's Nerve reports: JSON with host, port and optionally
// weight, labels and haproxy_server_options, where "backup" makes a backup.
func decodeNerve(path string, data []byte) ([]backend.Server, error) {
	if name := base(path); strings.HasPrefix(name, nerveNamePrefix) {
		decoded, err := nerveName(name)
		if err != nil {
			return nil, err
		}
		data = decoded
	}
	o, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	host, err := o.text("host")
	if err != nil {
		return nil, err
	}
	port, found, err := o.number("port")
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("got no port; want host and port")
	}
	s, err := newServer(path, "http", host, port)
	if err != nil {
		return nil, err
	}
	if err := applyMetadata(&s, o.object("labels")); err != nil {
		return nil, err
	}
	if err := applyMetadata(&s, object{"weight": o["weight"], "zone": o["zone"]}); err != nil {
		return nil, err
	}
	options, err := o.text("haproxy_server_options")
	if err != nil {
		return nil, err
	}
	for _, word := range strings.Fields(options) {
		if word == "backup" {
			s.Priority = 1
		}
	}
	return []backend.Server{s}, nil
}

// nerveName takes the record out of a name. Base64 may hold "_", so the length tells
// where it ends.
func nerveName(name string) ([]byte, error) {
	lengthText, rest, ok := strings.Cut(strings.TrimPrefix(name, nerveNamePrefix), "_")
	length, err := strconv.Atoi(lengthText)
	if !ok || err != nil || length < 0 || length > len(rest) {
		return nil, fmt.Errorf("got name %.64q; want base64_LENGTH_RECORD_SEQUENCE", name)
	}
	record, err := base64.URLEncoding.WithPadding(base64.NoPadding).DecodeString(strings.TrimRight(rest[:length], "="))
	if err != nil {
		return nil, fmt.Errorf("cannot decode name %.64q: %w", name, err)
	}
	return record, nil
}
