package format

import (
	"encoding/json"
	"fmt"
	"strings"

	"drover/backend"
)

// decodeCurator reads a ServiceInstance of Apache Curator's x-discovery, as Spring
// Cloud ZooKeeper and Dubbo 3's application level write it too. sslPort without port
// means https. The metadata keys weight, zone and instance_status of the payload are
// honoured; enabled false and a status other than UP do not serve.
func decodeCurator(path string, data []byte) ([]backend.Server, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	host, err := o.text("address")
	if err != nil {
		return nil, err
	}
	scheme := "http"
	port, found, err := o.number("port")
	if err != nil {
		return nil, err
	}
	if !found || port == 0 {
		if port, found, err = o.number("sslPort"); err != nil {
			return nil, err
		}
		scheme = "https"
	}
	if !found {
		return nil, fmt.Errorf("got neither port nor sslPort; want one")
	}
	s, err := newServer(path, scheme, host, port)
	if err != nil {
		return nil, err
	}
	enabled, err := o.text("enabled")
	if err != nil {
		return nil, err
	}
	metadata := curatorMetadata(o.object("payload"))
	status, err := metadata.text("instance_status")
	if err != nil {
		return nil, err
	}
	if enabled == "false" || status != "" && !strings.EqualFold(status, "UP") {
		return nil, nil
	}
	if err := applyMetadata(&s, metadata); err != nil {
		return nil, err
	}
	return dubboEndpoints(s, metadata)
}

// curatorMetadata finds the metadata in a payload: Spring Cloud's and Dubbo's nest it,
// others' own payloads are it.
func curatorMetadata(payload object) object {
	if payload.has("metadata") {
		return payload.object("metadata")
	}
	return payload
}

// applyMetadata takes what keys with a common meaning say.
func applyMetadata(s *backend.Server, m object) error {
	weight, err := m.text("weight")
	if err != nil {
		return err
	}
	if weight != "" {
		if err := setWeight(s, weight); err != nil {
			return err
		}
	}
	for _, key := range [...]string{"zone", "az", "availability_zone"} {
		if zone, err := m.text(key); err == nil && zone != "" {
			s.Zone = zone
			break
		}
	}
	if role, err := m.text("role"); err == nil {
		s.Role = role
	}
	return nil
}

// dubboEndpoints splits an instance of Dubbo 3's application level into its endpoints
// that speak HTTP. Without a list of endpoints the instance itself is the server.
func dubboEndpoints(s backend.Server, metadata object) ([]backend.Server, error) {
	list, err := metadata.text("dubbo.endpoints")
	if err != nil || list == "" {
		return []backend.Server{s}, err
	}
	var endpoints []object
	if err := json.Unmarshal([]byte(list), &endpoints); err != nil {
		return nil, fmt.Errorf("cannot parse dubbo.endpoints %.64q: %w", list, err)
	}
	var servers []backend.Server
	var foreign []string
	for _, e := range endpoints {
		protocol, err := e.text("protocol")
		if err != nil {
			return nil, err
		}
		scheme, ok := httpSchemes[strings.ToLower(protocol)]
		if !ok {
			foreign = append(foreign, protocol)
			continue
		}
		port, _, err := e.number("port")
		if err != nil {
			return nil, err
		}
		one, err := newServer(s.Origin, scheme, s.Host, port)
		if err != nil {
			return nil, err
		}
		one.Weight, one.Zone, one.Role = s.Weight, s.Zone, s.Role
		servers = append(servers, one)
	}
	if len(servers) == 0 && len(foreign) > 0 {
		return nil, errForeign(strings.Join(foreign, ", "))
	}
	return servers, nil
}

// errForeign tells of a provider that speaks no HTTP: an operator who wonders about an
// empty upstream finds it in the status.
func errForeign(protocol string) error {
	return fmt.Errorf("got protocol %.64q; want http, https, rest or tri", protocol)
}
