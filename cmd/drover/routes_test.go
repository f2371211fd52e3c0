package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const (
	routeHosts   = 100
	routePaths   = 100 // of each host
	routeRound   = 200 // divides the number of routes
	routeAnswer  = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	routeRequest = "GET /p%02d/item HTTP/1.1\r\nHost: h%02d.example.com\r\n\r\n"
)

// BenchmarkRoutes compares a drover with 10,000 routes with one that has a single
// route: the CPU time of the whole process for a whole request, over loopback. Both get
// the same requests, spread over all 10,000 routes or to one of them, in rounds that
// take turns, so that what else goes on meets both alike. It reports the ratio's median
// and quartiles over the rounds. Run it with -benchtime 1000x.
func BenchmarkRoutes(b *testing.B) {
	program := filepath.Join(b.TempDir(), "drover")
	if text, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		b.Fatalf("cannot build: %v: %s", err, text)
	}
	server := startEchoer(b)
	var many strings.Builder
	for host := range routeHosts {
		for path := range routePaths {
			_, _ = fmt.Fprintf(&many, "  - { host: h%02d.example.com, path_prefix: /p%02d, upstream: app }\n", host, path)
		}
	}
	one := startProcess(b, program, server, "  - { upstream: app }\n")
	all := startProcess(b, program, server, many.String())
	spread := rand.New(rand.NewPCG(1, 2)).Perm(routeHosts * routePaths)
	one.send(b, spread) // so that connections, handles and caches are there.
	all.send(b, spread)
	b.Run("spread", func(b *testing.B) { compareRoutes(b, one, all, spread) })
	b.Run("same", func(b *testing.B) { compareRoutes(b, one, all, slices.Repeat([]int{4711}, len(spread))) })
}

// compareRoutes sends both the same requests, in rounds.
func compareRoutes(b *testing.B, one, all *process, order []int) {
	var ratios, ones, alls []float64
	for round := 0; b.Loop(); round++ {
		next := round * routeRound % len(order)
		requests := order[next : next+routeRound]
		var x, y float64
		if round%2 == 0 {
			x, y = one.cost(b, requests), all.cost(b, requests)
		} else {
			y, x = all.cost(b, requests), one.cost(b, requests)
		}
		ones, alls, ratios = append(ones, x), append(alls, y), append(ratios, y/x)
	}
	b.ReportMetric(0, "ns/op") // of a round, client and server included: of no use.
	b.ReportMetric(quantile(ones, 0.5), "cpu-ns/1-route")
	b.ReportMetric(quantile(alls, 0.5), "cpu-ns/10000-routes")
	b.ReportMetric(quantile(ratios, 0.25), "ratio-p25")
	b.ReportMetric(quantile(ratios, 0.5), "ratio-p50")
	b.ReportMetric(quantile(ratios, 0.75), "ratio-p75")
}

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1))]
}

// process is a drover of its own, with one client's connection to it.
type process struct {
	pid    int
	conn   net.Conn
	answer *bufio.Reader
}

func startProcess(b *testing.B, program, server, routes string) *process {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	path := filepath.Join(b.TempDir(), "drover.yaml")
	text := preamble + fmt.Sprintf("listeners: [ { name: web, address: %q } ]\nupstreams: [ { name: app, servers: [ { address: %q } ] } ]\nroutes:\n", address, server) + routes
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "run", "-c", path, "--log-level", "error")
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	p := &process{pid: cmd.Process.Pid}
	eventually(b, "drover listens", func() bool { p.conn, err = net.Dial("tcp", address); return err == nil })
	b.Cleanup(func() { _ = p.conn.Close() })
	p.answer = bufio.NewReader(p.conn)
	return p
}

// send sends a request to each of the routes, one after the other.
func (p *process) send(b *testing.B, routes []int) {
	b.Helper()
	var line []byte
	for _, route := range routes {
		if _, err := fmt.Fprintf(p.conn, routeRequest, route%routePaths, route/routePaths); err != nil {
			b.Fatal(err)
		}
		for first := true; ; first = false {
			var err error
			if line, err = p.answer.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
			if first && !strings.HasPrefix(string(line), "HTTP/1.1 200 ") {
				b.Fatalf("route %d answered %q", route, line)
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := p.answer.Discard(2); err != nil {
			b.Fatal(err)
		}
	}
}

// cost gives the process's CPU time for each request, in nanoseconds.
func (p *process) cost(b *testing.B, routes []int) float64 {
	b.Helper()
	before := p.cpu(b)
	p.send(b, routes)
	return float64(p.cpu(b)-before) / float64(len(routes))
}

// cpu gives the time that the process's threads have run, in nanoseconds.
func (p *process) cpu(b *testing.B) (sum int64) {
	b.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid))
	if err != nil || len(threads) == 0 {
		b.Skip("the system does not tell the time that threads run")
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		var ran int64
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			b.Fatalf("cannot read %q: %v", text, err)
		}
		sum += ran
	}
	return sum
}

// startEchoer starts a server that answers every request alike, at a low price.
func startEchoer(b *testing.B) (address string) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				lines := bufio.NewReader(c)
				for {
					line, err := lines.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) > 2 {
						continue
					}
					if _, err := io.WriteString(c, routeAnswer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}
