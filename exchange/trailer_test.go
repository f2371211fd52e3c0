package exchange

import "testing"

func TestHeadOnly(t *testing.T) {
	for name, want := range map[string]bool{
		"Content-Length": true, "content_length": true, "TRANSFER-ENCODING": true, "Host": true, "te": true, "X-Forwarded-For": true,
		"x_forwarded_Anything": true, "X-Real-IP": true, "Cookie": true,
		"": false, "X": false, "X-Forwarded-": false, "X-Forwarded": false, "Set-Cookie": false, "grpc-status": false, "Hosts": false, "Content-MD5": false,
	} {
		if got := HeadOnly([]byte(name)); got != want {
			t.Errorf("HeadOnly(%q) = %v; want %v", name, got, want)
		}
	}
	name := []byte("grpc-status-details-bin")
	if n := testing.AllocsPerRun(100, func() { HeadOnly(name) }); n > 0 {
		t.Errorf("looking allocates %v times; want 0", n)
	}
}
