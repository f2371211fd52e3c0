package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"drover/config"
	"drover/metrics"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func newDemoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch servers come, turn sick, recover, drain and go, without a failed request",
		Long: `demo starts three small servers, registers them, stands in front of them and sends
a gentle load. It then adds a server, makes one sick, lets it recover, and drains
one, and shows what drover does about it. It needs no configuration and no network;
with --zookeeper the servers register in a real ZooKeeper.`,
		Args: cobra.NoArgs,
	}
	var o demoOptions
	cmd.Flags().StringVar(&o.zookeeper, "zookeeper", "", "register in the ZooKeeper at `host:port` instead of a folder")
	cmd.Flags().DurationVar(&o.step, "step", 4*time.Second, "`time` between two events")
	cmd.Flags().IntVar(&o.rate, "rate", 200, "requests per second")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return runDemo(ctx, o, cmd.OutOrStdout())
	}
	return cmd
}

type demoOptions struct {
	zookeeper string // "" for a folder
	step      time.Duration
	rate      int // requests per second
}

// maxDemoRate keeps the load gentle.
const maxDemoRate = 2000

// demo is one running demonstration.
type demo struct {
	options  demoOptions
	registry demoRegistry
	servers  []*demoServer
	engine   *engine
	upstream *upstream
	load     *demoLoad
	screen   *demoScreen
	seen     map[string]string // the state that each server was last seen in
}

func runDemo(ctx context.Context, o demoOptions, out io.Writer) (err error) {
	if o.rate < 1 || o.rate > maxDemoRate || o.step < 100*time.Millisecond {
		return fmt.Errorf("got --rate %d --step %s; want a rate from 1 to %d and a step of 100ms or more", o.rate, o.step, maxDemoRate)
	}
	dir, err := os.MkdirTemp("", "drover-demo-")
	if err != nil {
		return &exitError{exitFailed, fmt.Errorf("cannot make a folder for the demo: %w", err)}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{options: o, screen: newDemoScreen(out), seen: map[string]string{}}
	defer d.close()
	if err := d.start(ctx, dir); ctx.Err() != nil {
		return nil // interrupted before there was anything to see
	} else if err != nil {
		return &exitError{exitFailed, err}
	}
	d.play(ctx)
	return d.summary()
}

// start brings up servers, registry, drover and load.
func (d *demo) start(ctx context.Context, dir string) error {
	var err error
	if d.registry, err = newDemoRegistry(ctx, d.options.zookeeper, filepath.Join(dir, "servers.d")); err != nil {
		return err
	}
	for range 3 {
		if err := d.addServer(); err != nil {
			return err
		}
	}
	cfg, err := d.configure(dir)
	if err != nil {
		return err
	}
	d.engine = newEngine(zap.NewNop(), nil, metrics.New(0, version()))
	if err := d.engine.apply(ctx, cfg); err != nil {
		return err
	}
	d.upstream = d.engine.upstreams["demo"]
	d.load = startDemoLoad("http://"+d.engine.listeners["demo"].socket.ln.Addr().String()+"/", d.options.rate)
	return nil
}

// configure writes the configuration and loads it, as anybody's would be.
func (d *demo) configure(dir string) (*config.Config, error) {
	text := `listeners: [ { name: demo, address: "127.0.0.1:0" } ]
admin: { address: "" }
access_log: { format: "off" }
` + d.registry.ensemble() + `upstreams:
  - name: demo
    discover: ` + d.registry.discover() + `
    check: { type: http, path: /healthz, interval: 500ms, timeout: 400ms, edge_interval: 200ms, unhealthy_after: 2, healthy_after: 2 }
    outlier: { consecutive_failures: 3, eject_for: 1s }
routes:
  - { upstream: demo, retry: { attempts: 3, on: [ connect, stale, reset, 503 ] } }
`
	path := filepath.Join(dir, "drover.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the demo's configuration: %w", err)
	}
	return config.Load(config.Options{Path: path})
}

func (d *demo) addServer() error {
	s, err := startDemoServer(string(rune('A' + len(d.servers))))
	if err != nil {
		return err
	}
	d.servers = append(d.servers, s)
	return d.registry.put(s, 1)
}

// An act is one event of the demonstration.
type act struct {
	title string
	do    func(d *demo) error
}

// acts is the demonstration, one event per step.
var acts = []act{
	{"three servers are registered; requests spread evenly", func(*demo) error { return nil }},
	{"server D registers", (*demo).addServer},
	{"server B turns sick (503)", func(d *demo) error { d.servers[1].sick.Store(true); return nil }},
	{"server B recovers", func(d *demo) error { d.servers[1].sick.Store(false); return nil }},
	{"server A is drained: its weight becomes 0", func(d *demo) error { return d.registry.put(d.servers[0], 0) }},
	{"server A leaves", func(d *demo) error { return d.registry.remove(d.servers[0]) }},
}

// play runs the acts, showing what happens, until the last one's step is over or ctx
// ends.
func (d *demo) play(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for _, a := range acts {
		d.screen.event(a.title)
		begun := time.Now()
		if err := a.do(d); err != nil {
			d.screen.event("failed: " + err.Error())
		}
		until := time.NewTimer(d.options.step)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				until.Stop()
				return
			case <-tick.C:
				rows := d.state()
				d.notice(rows, time.Since(begun))
				d.screen.draw(rows)
			case <-until.C:
				d.screen.act(d.state())
				waiting = false
			}
		}
	}
}

// notice tells how drover's view of a server has changed since the last look.
func (d *demo) notice(rows []row, after time.Duration) {
	for _, r := range rows {
		before, known := d.seen[r.name]
		if !known && r.state == "gone" {
			continue // it is not registered yet.
		}
		if known && before != r.state || !known && after > 0 && len(d.seen) >= 3 {
			d.screen.note(fmt.Sprintf("%s after %.1fs", r.state, after.Seconds()))
		}
		d.seen[r.name] = r.state
	}
}

// summary ends the load and tells the result. Failed requests fail the demo.
func (d *demo) summary() error {
	d.load.stop()
	total, failed := d.load.total.Load(), d.load.failed.Load()
	d.screen.finish("%d requests, %d failed\n", total, failed)
	if failed > 0 {
		return &exitError{exitFailed, errors.New(strconv.FormatInt(failed, 10) + " requests failed; the first: " + d.load.firstError())}
	}
	return nil
}

func (d *demo) close() {
	if d.load != nil {
		d.load.stop()
	}
	if d.engine != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		d.engine.shutdown(ctx)
	}
	for _, s := range d.servers {
		s.stop()
	}
	if d.registry != nil {
		d.registry.close()
	}
}

// row is one server on the screen.
type row struct {
	name, address, state string
	weight               int
	requests             int64
}

// state is what the screen shows.
func (d *demo) state() []row {
	states := map[string]string{}
	weights := map[string]int{}
	for _, m := range d.upstream.group.Snapshot().Members {
		state := m.Health().String()
		switch {
		case m.Weight == 0:
			state = "draining"
		case m.Ejected():
			state = "ejected"
		case m.Health().String() == "down":
			state = "evicted"
		}
		states[m.Address()], weights[m.Address()] = state, m.Weight
	}
	rows := make([]row, 0, len(d.servers))
	for _, s := range d.servers {
		r := row{name: s.name, address: s.address, state: "gone", requests: s.requests.Load()}
		if state, ok := states[s.address]; ok {
			r.state, r.weight = state, weights[s.address]
		}
		rows = append(rows, r)
	}
	return rows
}
