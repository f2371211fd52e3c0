package units

import (
	"fmt"
	"testing"
)

func TestParsePrefixes(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "192.0.2.1": "192.0.2.1/32", "fd00::/8": "fd00::/8", "::1": "::1/128", "0.0.0.0/0": "0.0.0.0/0",
		"10.0.0.1/8": "", "": "", "localhost": "", "10.0.0.0/33": "", "::ffff:10.0.0.0/104": "", "::ffff:10.0.0.1": "", "fe80::1%eth0": "",
	} {
		list, err := ParsePrefixes([]string{text})
		if got := fmt.Sprint(list); want == "" && err == nil || want != "" && got != "["+want+"]" {
			t.Errorf("%q: got %s, %v; want %q", text, got, err, want)
		}
	}
}
