package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"drover/config"
	"drover/metrics"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func newRunCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "run",
		Short:   "Run with a configuration file",
		Example: "  drover run -c drover.yaml",
		Args:    cobra.NoArgs,
	}
	config.RegisterFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return run(cmd.Context(), config.Options{Flags: cmd.Flags()})
	}
	return cmd
}

// run serves a configuration file until a signal ends it.
func run(ctx context.Context, opts config.Options) error {
	var notes []func(*config.Watcher) // what was read before there was a logger for the watcher
	opts.OnRead = func(path string, content []byte) {
		notes = append(notes, func(w *config.Watcher) { w.Note(path, content) })
	}
	var remarks []*config.Error // of the newest load
	opts.Warn = func(w *config.Error) { remarks = append(remarks, w) }
	cfg, err := config.Load(opts)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	s, err := newService(cfg)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	s.watcher = config.NewWatcher(s.logger)
	for _, note := range notes {
		note(s.watcher)
	}
	s.watcher.SetFiles(cfg.Files())
	opts.OnRead = s.watcher.Note
	tell := func() {
		for _, r := range remarks {
			s.logger.Warn("the configuration is legal and probably not meant", zap.Error(r))
		}
		remarks = nil
	}
	tell()
	s.load = func() (*config.Config, error) {
		cfg, err := config.Load(opts)
		tell()
		return cfg, err
	}
	return s.serve(ctx, cfg)
}

// service is an engine together with what tells it to change and to end.
type service struct {
	engine *engine
	logger *zap.Logger
	// watcher and load are nil where there is no file to read again.
	watcher *config.Watcher
	load    func() (*config.Config, error)
}

func newService(cfg *config.Config) (*service, error) {
	logger, output, err := newLogger(cfg.Log)
	if err != nil {
		return nil, err
	}
	return &service{logger: logger, engine: newEngine(logger, output, metrics.New(cfg.Metrics.MaxSeries, version()))}, nil
}

// serve puts cfg into force and runs until a signal or ctx ends it.
func (s *service) serve(ctx context.Context, cfg *config.Config) error {
	signals, ends := make(chan os.Signal, 8), make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	defer signal.Stop(signals)
	defer signal.Stop(ends)
	return s.untilForced(ends, func() error { return s.heed(ctx, cfg, signals) })
}

const (
	// lastMoment is how long a second signal leaves for cutting what runs and writing the
	// logs; overtime is what the drain time-out leaves for that and for taking leave.
	lastMoment = 2 * time.Second
	overtime   = 10 * time.Second
)

// untilForced runs the service until it has ended. The second signal that asks for the
// end ends it whatever hangs.
func (s *service) untilForced(ends <-chan os.Signal, run func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- run() }()
	var late <-chan time.Time
	for n := 0; ; {
		select {
		case err := <-ended:
			return err
		case <-ends:
			if n++; n == 2 {
				late = time.After(lastMoment)
			}
		case <-late:
			return s.abandon()
		}
	}
}

// abandon ends the process without the parts that do not end themselves.
func (s *service) abandon() error {
	s.logger.Error("a part hangs, which is a bug; ending without it")
	return &exitError{exitForced, nil}
}

// heed does what signals and changed files ask for.
func (s *service) heed(ctx context.Context, cfg *config.Config, signals <-chan os.Signal) error {
	// A start or a reload that waits for servers must not keep the end waiting.
	waiting, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	defer stop()

	defer zap.RedirectStdLog(s.logger)() // where libraries write that know no other place.
	s.logger.Info("drover starts", zap.String("version", version()), zap.Int("pid", os.Getpid()))
	if err := s.engine.reload(waiting, cfg, nil); err != nil {
		s.engine.shutdown(expired())
		if cfg.Log.Output == "stderr" {
			err = nil // reload has logged it there.
		}
		return &exitError{exitFailed, err}
	}
	changed := make(chan struct{}, 1)
	if s.watcher != nil {
		watching := startTask("configuration watcher", s.logger, func(ctx context.Context) error {
			return s.watcher.Run(ctx, func() { notify(changed) })
		})
		defer watching.stop()
	}
	s.tell(daemon.SdNotifyReady)
	for {
		select {
		case <-ctx.Done():
			return s.end(ctx.Err().Error(), signals)
		case <-changed:
			s.reload(waiting, "a file changed")
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP:
				s.reload(waiting, "SIGHUP")
			case syscall.SIGUSR1:
				s.engine.reopenLogs()
			default:
				return s.end(sig.String(), signals)
			}
		}
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *service) reload(ctx context.Context, why string) {
	if s.load == nil {
		s.logger.Warn("there is no configuration file to reload", zap.String("why", why))
		return
	}
	s.logger.Info("reloading", zap.String("why", why))
	s.tell(daemon.SdNotifyReloading + "\nMONOTONIC_USEC=" + monotonicMicros())
	cfg, err := s.load()
	if s.engine.reload(ctx, cfg, err) == nil {
		s.watcher.SetFiles(cfg.Files())
	}
	s.tell(daemon.SdNotifyReady)
}

// end drains. A second signal cuts it short.
func (s *service) end(why string, signals <-chan os.Signal) error {
	timeout := s.engine.cfg.DrainTimeout
	s.logger.Info("draining", zap.String("why", why), zap.Duration("at_most", timeout))
	s.tell(daemon.SdNotifyStopping)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.engine.shutdown(ctx)
	}()
	forced, cut := false, ctx.Done()
	var late <-chan time.Time
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-cut:
			cut, late = nil, time.After(overtime)
		case <-late:
			return s.abandon()
		case sig := <-signals:
			if sig != syscall.SIGHUP && sig != syscall.SIGUSR1 {
				forced = true
				cancel()
			}
		}
	}
	if forced || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.logger.Warn("stopped before every request had finished")
		return &exitError{exitForced, nil}
	}
	s.logger.Info("stopped")
	return nil
}

// tell speaks to systemd where it listens.
func (s *service) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.logger.Warn("cannot notify systemd", zap.Error(err))
	}
}

// expired is a context that gives no time.
func expired() context.Context {
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	cancel()
	return ctx
}
