// Command faults measures what users see while one of three servers goes bad: for
// each fault and proxy, failed requests and requests slower than a second.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// row is one fault, with drover's goal.
type row struct {
	method string
	fault  fault
	name   string
	failed int64 // at most
	slow   int64 // at most
}

var rows = []row{
	{"GET", reset, "connection reset", 0, 0},
	{"GET", blackHole, "black hole (accepts, never answers)", 0, 20},
	{"GET", latency, "3 s latency", 0, 20},
	{"GET", cut, "answer cut in mid-body", 10, 0},
	{"GET", trickle, "answers at 1 KiB/s while its check passes", 0, 60},
	{"GET", status503, "503", 0, 0},
	{"POST", gone, "process gone", 1, 0},
	{"POST", reset, "connection reset", 2, 0},
	{"POST", blackHole, "black hole", 20, 20},
	{"POST", status503, "503", 2, 0},
}

// timing of one run.
type timing struct{ before, fault, after time.Duration }

var (
	full  = timing{2 * time.Second, 6 * time.Second, 2 * time.Second}
	quick = timing{500 * time.Millisecond, 2 * time.Second, 500 * time.Millisecond}
)

const (
	rate    = 310 // requests per second
	slow    = time.Second
	timeout = 10 * time.Second
)

// outcome is what the users of one run saw.
type outcome struct {
	sent, failed, slow, doubled int64
	first                       string // failure
}

// errMissed says that drover did worse than a row's goal.
var errMissed = errors.New("drover missed goals")

func main() {
	only := flag.String("only", "", "measure this proxy alone")
	name := flag.String("row", "", "measure rows whose name holds this text alone")
	short := flag.Bool("quick", false, "two seconds of fault instead of six")
	out := flag.String("out", "", "write the table to this file too")
	flag.Parse()
	t := full
	if *short {
		t = quick
	}
	if err := run(*only, *name, *out, t); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(only, name, out string, t timing) error {
	dir, err := os.MkdirTemp("", "drover-faults-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder.
	var present []proxy
	for _, p := range proxies {
		if only != "" && !strings.EqualFold(only, p.name) {
			continue
		}
		switch _, err := p.find(dir); {
		case err != nil && (only != "" || p.program == "drover"):
			return fmt.Errorf("cannot find %s: %w", p.name, err) // an empty column would look like one without faults
		case err != nil:
			fmt.Fprintf(os.Stderr, "%s is left out: %v\n", p.name, err)
			continue
		}
		present = append(present, p)
	}
	if len(present) == 0 {
		return fmt.Errorf("got unknown proxy %q; want one of nginx, HAProxy, Caddy, drover", only)
	}
	var table strings.Builder
	fmt.Fprintf(&table, "| fault (failed / slower than 1 s) |")
	for _, p := range present {
		fmt.Fprintf(&table, " %s |", p.name)
	}
	fmt.Fprintf(&table, " goal |\n|---|%s---|\n", strings.Repeat("---|", len(present)))
	missed, measured := 0, 0
	for _, r := range rows {
		title := r.method + ": " + r.name
		if !strings.Contains(title, name) {
			continue
		}
		measured++
		fmt.Fprintf(&table, "| %s |", title)
		for _, p := range present {
			o, err := measure(p, r, dir, t)
			if err != nil {
				return fmt.Errorf("cannot measure %s with %s: %w", title, p.name, err)
			}
			fmt.Fprintf(&table, " %d / %d |", o.failed, o.slow)
			fmt.Fprintf(os.Stderr, "%-8s %-50s sent %d, failed %d, slow %d, executed twice %d %s\n",
				p.name, title, o.sent, o.failed, o.slow, o.doubled, o.first)
			if p.name == "drover" && (o.failed > r.failed || o.slow > r.slow || o.doubled > 0) {
				missed++
			}
		}
		fmt.Fprintf(&table, " %d / %d |\n", r.failed, r.slow)
	}
	if measured == 0 {
		return fmt.Errorf("got %q, which is in no row's name", name)
	}
	fmt.Print(table.String())
	if out != "" {
		if err := os.WriteFile(out, []byte(table.String()), 0o644); err != nil { //nolint:gosec // for everybody to read.
			return err
		}
	}
	if missed > 0 {
		return fmt.Errorf("%w: %d", errMissed, missed)
	}
	return nil
}

// measure runs one proxy through one fault.
func measure(p proxy, r row, dir string, t timing) (outcome, error) {
	var servers []*server
	var addresses []string
	for range 3 {
		s, err := startServer()
		if err != nil {
			return outcome{}, err
		}
		defer s.stop()
		servers, addresses = append(servers, s), append(addresses, s.address)
	}
	running, err := p.start(dir, addresses)
	if err != nil {
		return outcome{}, err
	}
	defer running.stop()
	l := startLoad(running.url, r.method)
	time.Sleep(t.before)
	if err := servers[0].set(r.fault); err != nil {
		return outcome{}, err
	}
	time.Sleep(t.fault)
	if err := servers[0].set(none); err != nil {
		return outcome{}, err
	}
	time.Sleep(t.after)
	o := l.end()
	executions := map[string]int{}
	for _, s := range servers {
		s.mu.Lock()
		for id, n := range s.executed {
			executions[id] += n
		}
		s.mu.Unlock()
	}
	for _, n := range executions {
		if n > 1 {
			o.doubled++
		}
	}
	return o, nil
}

// load sends requests at a fixed rate, whatever becomes of them.
type load struct {
	url, method                string
	client                     *http.Client
	stop                       chan struct{}
	done                       sync.WaitGroup
	sent, failed, slow, number atomic.Int64
	first                      atomic.Pointer[string]
}

func startLoad(url, method string) *load {
	l := &load{url: url, method: method, stop: make(chan struct{})}
	l.client = &http.Client{Timeout: timeout, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	l.done.Go(func() {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
				l.done.Go(l.one)
			}
		}
	})
	return l
}

func (l *load) one() {
	begin := time.Now()
	err := l.request()
	l.sent.Add(1)
	if time.Since(begin) > slow {
		l.slow.Add(1)
	}
	if err != nil {
		l.failed.Add(1)
		text := err.Error()
		l.first.CompareAndSwap(nil, &text)
	}
}

func (l *load) request() error {
	var payload io.Reader
	if l.method == http.MethodPost {
		payload = strings.NewReader("payload")
	}
	req, err := http.NewRequest(l.method, l.url+"/", payload)
	if err != nil {
		return err
	}
	req.Header.Set("X-Request-Number", fmt.Sprint(l.number.Add(1)))
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below.
	n, err := io.Copy(io.Discard, resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d", resp.StatusCode)
	case n != bodySize:
		return errors.New("got a short body")
	}
	return nil
}

func (l *load) end() outcome {
	close(l.stop)
	l.done.Wait()
	l.client.CloseIdleConnections()
	o := outcome{sent: l.sent.Load(), failed: l.failed.Load(), slow: l.slow.Load()}
	if text := l.first.Load(); text != nil {
		o.first = "(first: " + *text + ")"
	}
	return o
}
