package healthcheck

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"drover/backend"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into their files; commit it only if you understand the change")

// TestScenarios plays testdata/*.txt: a Monitor and an Outlier with default settings,
// but no jitter, over the same servers. Each line is a command; the lines after it that
// begin with > are what it made the log say, and what it printed:
//
//	servers a b      the upstream's servers from now on
//	fail a, pass a   what the server's probes come to from now on
//	report a 55o     requests to the server, in the letters of outcomesByLetter
//	wait 5s          time passes
//	restart          a reload replaces Monitor and Outlier
//	status           one line for each server
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("got no scenario: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = playScenario(t, string(text)) })
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("got\n%s\nwant\n%s", got, text)
			}
		})
	}
}

// world is what a scenario acts on.
type world struct {
	t       *testing.T
	checker *fakeChecker
	logs    *observer.ObservedLogs
	logger  *zap.Logger
	known   map[string]*backend.Member
	members []*backend.Member
	monitor *Monitor
	outlier *Outlier
	stop    func()
}

func playScenario(t *testing.T, text string) string {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	w := &world{t: t, checker: &fakeChecker{}, logs: logs, logger: zap.New(core), known: map[string]*backend.Member{}}
	w.start()
	defer func() { w.stop() }()
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ">") {
			continue
		}
		out.WriteString(line)
		if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
			printed := w.do(words)
			for _, entry := range logs.TakeAll() {
				fmt.Fprintf(&out, "> %s\n", logLine(entry))
			}
			out.WriteString(printed)
		}
	}
	return out.String()
}

func (w *world) start() {
	check := withDefaults(w.t, func(c *CheckConfig) { c.JitterPercent = 0 })
	watched := &OutlierConfig{}
	watched.SetDefaults()
	var err error
	if w.monitor, err = NewMonitor("users", check, func() {}, w.logger); err != nil {
		w.t.Fatal(err)
	}
	w.monitor.checker = w.checker
	if w.outlier, err = NewOutlier("users", watched, func() {}, w.logger); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = w.monitor.Run(ctx) })
	running.Go(func() { _ = w.outlier.Run(ctx) })
	w.stop = func() {
		cancel()
		running.Wait()
	}
	w.sync()
}

func (w *world) sync() {
	w.monitor.Sync(w.members)
	w.outlier.Sync(w.members)
	synctest.Wait()
}

func (w *world) do(words []string) (printed string) {
	w.t.Helper()
	switch command := words[0]; command {
	case "servers":
		w.members = nil
		for _, host := range words[1:] {
			if w.known[host] == nil {
				w.known[host] = member(host)
			}
			w.members = append(w.members, w.known[host])
		}
		w.sync()
	case "fail", "pass":
		w.checker.setFails(words[1], command == "fail")
	case "report":
		for _, letter := range words[2] {
			w.outlier.Report(w.known[words[1]], outcomesByLetter[letter])
		}
		synctest.Wait()
	case "wait":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			w.t.Fatal(err)
		}
		sleep(d)
	case "restart":
		w.stop()
		w.start()
	case "status":
		for _, m := range w.members {
			printed += fmt.Sprintf("> %s %s", m.Host, m.Health())
			if m.Ejected() {
				printed += fmt.Sprintf(", ejected for %s", time.Until(m.EjectedUntil()))
			}
			printed += "\n"
		}
	default:
		w.t.Fatalf("got command %q", command)
	}
	return printed
}
