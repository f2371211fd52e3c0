package backend

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestIDSpelling(t *testing.T) {
	for _, c := range []struct {
		id   ID
		want string
	}{
		{ID{"http", "10.0.0.1", 80}, "http://10.0.0.1:80"},
		{ID{"https", "::1", 8443}, "https://[::1]:8443"},
		{ID{"http", "users.local", 0}, "http://users.local:0"},
	} {
		if got := c.id.String(); got != c.want {
			t.Errorf("got %s; want %s", got, c.want)
		}
	}
}

func TestSameData(t *testing.T) {
	base := Server{ID: ID{"http", "a", 80}, Weight: 2, Priority: 1, Zone: "z", Role: "r", Tags: []string{"x"}, Origin: "/1"}
	for name, change := range map[string]func(*Server){
		"scheme":   func(s *Server) { s.Scheme = "https" },
		"host":     func(s *Server) { s.Host = "b" },
		"port":     func(s *Server) { s.Port = 81 },
		"weight":   func(s *Server) { s.Weight = 3 },
		"priority": func(s *Server) { s.Priority = 0 },
		"zone":     func(s *Server) { s.Zone = "" },
		"role":     func(s *Server) { s.Role = "" },
		"tags":     func(s *Server) { s.Tags = []string{"x", "y"} },
	} {
		other := base
		if change(&other); base.SameData(other) {
			t.Errorf("a changed %s counts as the same", name)
		}
	}
	other := base
	other.Origin, other.Tags = "/2", slices.Clone(base.Tags)
	if !base.SameData(other) {
		t.Error("a changed origin counts as a change")
	}
}

// TestMergeTwin compares Merge with a map.
func TestMergeTwin(t *testing.T) {
	for range 300 {
		servers := make([]Server, rand.IntN(12))
		for i := range servers {
			id := ID{[]string{"http", "https"}[rand.IntN(2)], fmt.Sprint("h", rand.IntN(3)), uint16(rand.IntN(3))}
			servers[i] = Server{ID: id, Weight: i}
		}
		if rand.IntN(3) == 0 {
			slices.SortStableFunc(servers, func(a, b Server) int { return a.Compare(b.ID) })
		}
		input := slices.Clone(servers)
		last := map[ID]int{}
		for _, s := range servers {
			last[s.ID] = s.Weight
		}
		merged := Merge(servers)
		if len(merged) != len(last) {
			t.Fatalf("%d servers of %d IDs; want one each", len(merged), len(last))
		}
		for i, s := range merged {
			if s.Weight != last[s.ID] {
				t.Fatalf("%s: entry %d won; want the last, %d", s.ID, s.Weight, last[s.ID])
			}
			if i > 0 && merged[i-1].ID.Compare(s.ID) >= 0 {
				t.Fatalf("%s stands before %s; want ID order", merged[i-1].ID, s.ID)
			}
		}
		if !slices.EqualFunc(input, servers, Server.SameData) {
			t.Fatal("Merge changed its input")
		}
	}
}

func TestFailureNames(t *testing.T) {
	seen := map[string]bool{}
	for f := FailureNone; f <= FailureClient; f++ {
		if name := f.String(); name == "" || seen[name] {
			t.Errorf("failure %d is called %q; want a name of its own", f, name)
		}
		seen[f.String()] = true
	}
}
