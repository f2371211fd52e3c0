package main

import (
	"fmt"
	"os"
	"sync"

	"drover/config"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logOutput is drover's own log's destination. It can be opened anew after rotation, and
// a reload can replace it.
type logOutput struct {
	// immutable
	level  zap.AtomicLevel
	format string

	// under mu
	mu   sync.Mutex
	name string
	file *os.File
}

// openLog opens a log's destination.
func openLog(name string) (*os.File, error) {
	switch name {
	case "stderr":
		return os.Stderr, nil
	case "stdout":
		return os.Stdout, nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640) //nolint:gosec // the operator names it.
	if err != nil {
		return nil, fmt.Errorf("cannot open log %q: %w", name, err)
	}
	return f, nil
}

func closeLog(f *os.File) {
	if f != nil && f != os.Stderr && f != os.Stdout {
		_ = f.Close() // opened for append; the kernel has the bytes.
	}
}

// reopen opens the file again. On an error the old one stays in use.
func (o *logOutput) reopen() error {
	name := o.output()
	next, err := openLog(name)
	if err == nil {
		o.use(name, next)
	}
	return err
}

func (o *logOutput) output() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.name
}

// use writes to another file from now on.
func (o *logOutput) use(name string, next *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	closeLog(o.file)
	o.name, o.file = name, next
}

// Write implements zapcore.WriteSyncer.
func (o *logOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.file.Write(p)
}

// Sync implements zapcore.WriteSyncer. Each line is written at once.
func (o *logOutput) Sync() error { return nil }

// newLogger makes drover's own log.
func newLogger(cfg config.LogConfig) (*zap.Logger, *logOutput, error) {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot use log level %q: %w", cfg.Level, err)
	}
	file, err := openLog(cfg.Output)
	if err != nil {
		return nil, nil, err
	}
	output := &logOutput{level: zap.NewAtomicLevelAt(level), format: cfg.Format, name: cfg.Output, file: file}
	settings := zap.NewProductionEncoderConfig()
	settings.EncodeTime = zapcore.ISO8601TimeEncoder
	settings.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(settings)
	if cfg.Format == "console" {
		settings.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(settings)
	}
	return zap.New(zapcore.NewCore(encoder, output, output.level)), output, nil
}

// logPlan is what a new configuration makes of the log: all that can fail has been done.
type logPlan struct {
	cfg   config.LogConfig
	level zapcore.Level
	file  *os.File // nil: unchanged
}

// planLog prepares a change of the log. It gives nil where the log is not the engine's.
func (e *engine) planLog(cfg config.LogConfig) (*logPlan, error) {
	if e.logFile == nil {
		return nil, nil //nolint:nilnil // there is nothing to change.
	}
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("cannot use log level %q: %w", cfg.Level, err)
	}
	p := &logPlan{cfg: cfg, level: level}
	if cfg.Output != e.logFile.output() {
		if p.file, err = openLog(cfg.Output); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// undo gives back what a plan took.
func (p *logPlan) undo() {
	if p != nil {
		closeLog(p.file)
	}
}

// commitLog carries a plan out. The format of a logger is fixed when it is made.
func (e *engine) commitLog(p *logPlan) {
	if p == nil {
		return
	}
	e.logFile.level.SetLevel(p.level)
	if p.file != nil {
		e.logFile.use(p.cfg.Output, p.file)
	}
	if p.cfg.Format != e.logFile.format {
		e.logger.Warn("log.format stays as it is until the next start", zap.String("now", e.logFile.format), zap.String("configured", p.cfg.Format))
	}
}
