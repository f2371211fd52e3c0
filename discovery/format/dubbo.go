package format

import (
	"fmt"
	"strconv"
	"strings"

	"drover/backend"
)

// dubboWeight is what a provider weighs that names no weight.
const dubboWeight = 100

// decodeDubbo reads Dubbo's interface level (2.7, and 3 by default), where the name is
// the record: a percent-encoded URL. Only rest, tri, http and https speak HTTP; other
// protocols, such as dubbo itself, give no server. JSON content is an instance of the
// application level.
func decodeDubbo(path string, data []byte) ([]backend.Server, error) {
	name := base(path)
	if !isDubboName(name) {
		if strings.HasPrefix(strings.TrimSpace(string(data)), "{") {
			return decodeCurator(path, data)
		}
		return nil, fmt.Errorf("got name %.64q; want a percent-encoded URL, or JSON as content", name)
	}
	u, err := dubboURL(name)
	if err != nil {
		return nil, err
	}
	scheme, ok := httpSchemes[strings.ToLower(u.Scheme)]
	if !ok {
		return nil, errForeign(u.Scheme)
	}
	if u.User != nil {
		return nil, fmt.Errorf("got user information in the URL; want none")
	}
	port, err := strconv.ParseInt(u.Port(), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("got %.64q; want host:port", u.Host)
	}
	s, err := newServer(path, scheme, u.Hostname(), port)
	if err != nil {
		return nil, err
	}
	query := u.Query()
	category := query.Get("category")
	if query.Get("enabled") == "false" || query.Get("disabled") == "true" || category != "" && category != "providers" {
		return nil, nil
	}
	s.Weight = dubboWeight
	if weight := query.Get("weight"); weight != "" {
		if err := setWeight(&s, weight); err != nil {
			return nil, err
		}
	}
	if tag := query.Get("dubbo.tag"); tag != "" {
		s.Tags = []string{tag}
	}
	return []backend.Server{s}, nil
}
