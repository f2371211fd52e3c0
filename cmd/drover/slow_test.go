package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"drover/internal/zktest"
)

// slowLimit is what the well-behaved client is promised, of 99 requests in 100.
const slowLimit = 200 * time.Millisecond

// TestSlowClients: slowhttptest attacks in each of its modes, and a well-behaved client
// beside it sees nothing of that. With TEST_SLOW, how long each mode lasts, there are
// 1,000 connections and the client's latency is judged too; else it is a short one.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("slowhttptest")
	if err != nil {
		zktest.Missing(t, "slowhttptest", "slowhttptest")
	}
	lasts, connections, whole := 4*time.Second, 200, false
	requests := 1 // at least; how many fit in is a matter of time
	if text := os.Getenv("TEST_SLOW"); text != "" {
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		connections, whole, requests = 1000, true, 20
	}
	p := startPeer(t, "a")
	large := strings.Repeat("0123456789abcdef", 64<<10)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			http.ServeContent(w, r, "large.txt", time.Time{}, strings.NewReader(large))
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // a slow one's body ends in an error
		_, _ = io.WriteString(w, "fine")
	})
	p.handler.Store(&h)
	for _, mode := range []struct{ name, flags string }{
		{"slow heads", "-H -i 3 -x 24 -t GET"},
		{"slow bodies", "-B -i 3 -s 8192 -x 24 -t POST"},
		{"slow reads", "-X -w 512 -y 1024 -n 5 -z 32 -k 3"},
		{"ranges", "-R -a 10 -b 3000 -t HEAD"},
	} {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, fmt.Sprintf(`access_log: { format: "off" }
`+oneUpstream, p.address))
			s.run(t)
			attack := append(strings.Fields(mode.flags), "-c", strconv.Itoa(connections), "-r", strconv.Itoa(connections/2),
				"-l", strconv.Itoa(int(lasts.Seconds())), "-p", "3", "-u", "http://"+s.listen+"/large")
			ctx, cancel := context.WithTimeout(t.Context(), lasts)
			defer cancel()
			attacked := make(chan int, 1)
			go func() { attacked <- slowAttack(ctx, tool, attack) }()
			took := behave(ctx, t, "http://"+s.listen+"/")
			rounds := <-attacked
			_, metrics := fetch(t, client(t, false), http.MethodGet, "http://"+s.admin+"/metrics", "")
			accepted := regexp.MustCompile(`drover_listener_connections_total{listener="web"} (\S+)`).FindStringSubmatch(metrics)
			if len(accepted) == 0 {
				t.Fatalf("no count of connections in\n%s", metrics)
			}
			// Half of the good requests brought a connection of their own.
			if n, err := strconv.ParseFloat(accepted[1], 64); err != nil || int(n)-len(took)/2 < connections || rounds < 1 || len(took) < requests {
				t.Fatalf("%s connections, %d rounds of slowhttptest, %d requests beside it; want more than %d, 1 and %d", accepted[1], rounds, len(took), connections, requests)
			}
			slices.Sort(took)
			p99 := took[len(took)*99/100]
			t.Logf("%d connections, %d rounds in %v: %d requests, median %v, p99 %v, most %v",
				connections, rounds, lasts, len(took), took[len(took)/2], p99, took[len(took)-1])
			if whole && p99 >= slowLimit {
				t.Errorf("p99 %v; want less than %v", p99, slowLimit)
			}
		})
	}
}

// slowAttack runs slowhttptest again and again, since it ends once drover has closed
// all its connections. It gives how often it was begun and did not fail.
func slowAttack(ctx context.Context, tool string, args []string) (rounds int) {
	for ctx.Err() == nil {
		// As many files as may be: there is one for each connection.
		cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `ulimit -n $(ulimit -H -n); exec "$0" "$@"`, tool}, args...)...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGKILL) }
		out, err := cmd.CombinedOutput()
		if ctx.Err() == nil && (err != nil || !strings.Contains(string(out), "Exit status")) {
			return 0
		}
		rounds++
	}
	return rounds
}

// behave sends 50 requests a second until the context ends, each of which must be
// answered, half of them on new connections, and gives how long each took.
func behave(ctx context.Context, t *testing.T, url string) (took []time.Duration) {
	t.Helper()
	kept, fresh := client(t, true), client(t, false)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return took
		}
		begun := time.Now()
		c := kept
		if i%2 == 1 {
			c = fresh
		}
		resp, body := fetch(t, c, http.MethodGet, url, "")
		took = append(took, time.Since(begun))
		if resp.StatusCode != 200 || body != "fine" {
			t.Fatalf("request %d: got %d %q; want 200", i, resp.StatusCode, body)
		}
	}
}
