package main

import (
	"fmt"
	"os"
	"sync"

	"drover/config"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logOutput is a log's destination that can be opened anew after rotation.
type logOutput struct {
	// immutable
	name string

	// under mu
	mu   sync.Mutex
	file *os.File
}

func openLogOutput(name string) (*logOutput, error) {
	o := &logOutput{name: name}
	if err := o.reopen(); err != nil {
		return nil, err
	}
	return o, nil
}

// reopen opens the file again. On an error the old one stays in use.
func (o *logOutput) reopen() error {
	var next *os.File
	switch o.name {
	case "stderr":
		next = os.Stderr
	case "stdout":
		next = os.Stdout
	default:
		f, err := os.OpenFile(o.name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640) //nolint:gosec // the operator names it.
		if err != nil {
			return fmt.Errorf("cannot open log %q: %w", o.name, err)
		}
		next = f
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != nil && o.file != os.Stderr && o.file != os.Stdout {
		_ = o.file.Close() // opened for append; the kernel has the bytes.
	}
	o.file = next
	return nil
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
	output, err := openLogOutput(cfg.Output)
	if err != nil {
		return nil, nil, err
	}
	settings := zap.NewProductionEncoderConfig()
	settings.EncodeTime = zapcore.ISO8601TimeEncoder
	settings.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(settings)
	if cfg.Format == "console" {
		settings.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(settings)
	}
	return zap.New(zapcore.NewCore(encoder, output, level)), output, nil
}
