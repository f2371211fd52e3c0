package proxy

import (
	"errors"
	"fmt"

	"drover/invalid"
	"drover/proxy/access"
)

// AccessConfig says who may use a route. What is given is asked in this order: deny
// and allow, cors for preflights, basic_auth or jwt, forward_auth.
type AccessConfig struct {
	// Allow are the client addresses that may use the route, as ranges ("10.0.0.0/8")
	// or single addresses; the others get 403. Default all.
	Allow []string `yaml:"allow"`
	// Deny are those that may not, whatever Allow says; they get 403. Default none.
	Deny []string `yaml:"deny"`
	// CORS says which other origins' scripts may use the route. Absent: the server's
	// own fields pass as they are.
	CORS *access.CORSConfig `yaml:"cors"`
}

// Validate implements the decoder's contract.
func (c *AccessConfig) Validate() error {
	var faults []error
	for _, list := range []struct {
		key   string
		texts []string
	}{{"allow", c.Allow}, {"deny", c.Deny}} {
		if _, at, err := access.ParseAddresses(list.texts); err != nil {
			faults = append(faults, invalid.In(fmt.Sprintf("%s[%d]", list.key, at), err))
		}
	}
	if c.CORS != nil {
		faults = append(faults, invalid.In("cors", c.CORS.Validate()))
	}
	return errors.Join(faults...)
}
