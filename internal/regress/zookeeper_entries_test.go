package regress

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRegistryEntries: entries that are huge, malformed or hostile leave their good
// neighbour alone. Those of ZooKeeper go through the same decoders and the same policy.
func TestRegistryEntries(t *testing.T) {
	o := startOrigin(t, nil)
	dir := t.TempDir()
	d := func(more string) *drover {
		return start(t, fmt.Sprintf("listeners: [{ name: web, address: WEB }]\nupstreams: [{ name: u, %s discover: { file: { path: %q } } }]\nroutes: [{ upstream: u }]\n", more, dir), "")
	}
	for name, text := range map[string]string{
		"good": o.address, "huge": strings.Repeat("[", 2<<20), "bytes": "\x00\xff\xfe", "metadata": "169.254.169.254:80", "mapped": "[::ffff:169.254.169.254]:80",
		"any": "0.0.0.0:80", "json": `{"host":"fe80::1","port":80}`, "deep": strings.Repeat(`{"a":`, 10_000), "port": "10.0.0.1:99999", "line": "10.0.0.1:80\r\nX: y",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running := d("")
	for range 10 {
		serves(t, running)
	}
	got := exchange(t, running.admin, "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if strings.Contains(got, `"server": "http://169.254`) || !strings.Contains(got, "got from a registry") {
		t.Errorf("/status: %s; want the metadata address among the rejected alone", got)
	}
}
