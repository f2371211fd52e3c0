package proxy

import "testing"

func TestLoggedWithoutUserinfo(t *testing.T) {
	for target, want := range map[string]string{
		"/a@b": "/a@b", "/a?u=http://x:y@z": "/a?u=http://x:y@z", "http://u:p@a/b@c": "http://a/b@c", "http://a/b@c": "http://a/b@c", "http://u@": "http://", "*": "*", "": "",
	} {
		if got := string(loggedTarget([]byte(target))); got != want {
			t.Errorf("target %q: got %q, want %q", target, got, want)
		}
	}
	for host, want := range map[string]string{"a": "a", "u:p@a": "a", "u@v@a:80": "a:80", "": ""} {
		if got := string(withoutUserinfo([]byte(host), 0)); got != want {
			t.Errorf("host %q: got %q, want %q", host, got, want)
		}
	}
}
