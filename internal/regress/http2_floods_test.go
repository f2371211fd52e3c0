package regress

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"drover/internal/h2flood"

	"golang.org/x/net/http2"
)

const (
	// floodMemory is how much more memory the process may have resident at its peak. What
	// a flood keeps is less by far (see proxy/front), but its garbage is collected late.
	floodMemory = 8 << 20
	// floodCPU is what all of a flood may take of one processor, the requests of others
	// beside it included.
	floodCPU = time.Second / 2
)

// TestHTTP2Floods: each flood ends by GOAWAY in time, at little cost, and others are
// served meanwhile.
func TestHTTP2Floods(t *testing.T) {
	o := startOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.WriteString(w, "an answer")
		for r.URL.Path == h2flood.Endless && err == nil {
			_, err = w.Write(make([]byte, 16<<10))
		}
	})
	for name, send := range h2flood.Kinds {
		t.Run(name, func(t *testing.T) {
			d := start(t, toOrigin(o.address, ""), "")
			for range 20 {
				serves(t, d) // what is made once for all is made now.
			}
			memory, cpu := d.usage(t)
			code, err := h2flood.Run(dial(t, d.web), send, func(int) { serves(t, d) })
			if err != nil || code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("got %v, %v; want ENHANCE_YOUR_CALM", code, err)
			}
			serves(t, d)
			peak, spent := d.usage(t)
			t.Logf("%d KiB of memory, %v of processor time", (peak-memory)>>10, spent-cpu)
			if peak-memory > floodMemory {
				t.Errorf("resident memory grew by %d KiB; want at most %d", (peak-memory)>>10, floodMemory>>10)
			}
			if spent-cpu > floodCPU {
				t.Errorf("took %v of processor time; want at most %v", spent-cpu, floodCPU)
			}
		})
	}
}

// usage is the most memory that the process has had resident, in bytes, and the processor
// time that it has taken (proc(5)).
func (d *drover) usage(t *testing.T) (peak int64, cpu time.Duration) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.process.Pid))
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(after, &peak); err != nil {
		t.Fatalf("no peak in %q: %v", status, err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatalf("no times in %q: %v", stat, err)
	}
	return peak << 10, time.Duration(user+system) * (time.Second / 100) // of USER_HZ, 100 everywhere
}
