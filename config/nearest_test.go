package config

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"address", "header_timeout", "host", "hosts", "path", "path_prefix", "tls"}
	f := func(word, want string) {
		t.Helper()
		if got := nearest(word, known); got != want {
			t.Errorf("got %q for %q; want %q", got, word, want)
		}
	}
	f("adress", "address")
	f("addr", "")
	f("headerTimeout", "header_timeout")
	f("header-timeout", "header_timeout")
	f("HOST", "host")
	f("hsot", "host")
	f("pathprefix", "path_prefix")
	f("tsl", "tls")
	f("x", "")
	f("", "")
	f("nonsense", "")
}

func TestEditDistance(t *testing.T) {
	f := func(a, b string, want int) {
		t.Helper()
		if got := editDistance(a, b); got != want {
			t.Errorf("got %d for %q and %q; want %d", got, a, b, want)
		}
	}
	f("", "", 0)
	f("", "abc", 3)
	f("abc", "abc", 0)
	f("abc", "abd", 1)
	f("abc", "ab", 1)
	f("abc", "acb", 1) // a swap counts once.
	f("kitten", "sitting", 3)
}
