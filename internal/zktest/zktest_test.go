package zktest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The data outlives a stop, a kill and a pause, on the same port.
func TestServerKeepsItsData(t *testing.T) {
	s := Start(t)
	Make(t, s.Client(t), "/kept/here", "data")
	for name, restart := range map[string]func(){
		"stop":  func() { s.Restart(t) },
		"kill":  func() { s.Kill(); s.Restart(t) },
		"pause": func() { s.Pause(); s.Resume() },
	} {
		addr := s.Addr()
		restart()
		if s.Addr() != addr {
			t.Fatalf("%s: address changed from %s to %s", name, addr, s.Addr())
		}
		data, _, err := s.Client(t).Get("/kept/here")
		if err != nil || string(data) != "data" {
			t.Fatalf("%s: got %q, %v", name, data, err)
		}
	}
}
