package compress

import (
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// stream is a compressor of one library or another.
type stream interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// level is what a word for a level means to each coding.
type level struct {
	gzip, brotli int
	zstd         zstd.EncoderLevel
}

// levels is the one table of levels.
var levels = map[string]level{
	"fast":    {1, 1, zstd.SpeedFastest},
	"default": {5, 4, zstd.SpeedDefault},
	"best":    {9, 9, zstd.SpeedBestCompression},
}

// windowBits is how far back a compressor looks, in powers of two: as much as most
// pages have, and little enough for thousands of streams at once.
const windowBits = 18

// codings is the one table of content codings. Browsers take up to 8 MiB of window for
// zstd (RFC 9659), which windowBits is far below.
var codings = map[string]func(level) (stream, error){
	"gzip": func(l level) (stream, error) { return gzip.NewWriterLevel(io.Discard, l.gzip) },
	"br": func(l level) (stream, error) {
		return brotli.NewWriterOptions(io.Discard, brotli.WriterOptions{Quality: l.brotli, LGWin: windowBits}), nil
	},
	"zstd": func(l level) (stream, error) {
		return zstd.NewWriter(io.Discard, zstd.WithEncoderLevel(l.zstd), zstd.WithWindowSize(1<<windowBits),
			zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
	},
}

// Encoder compresses one response. It belongs to one goroutine.
type Encoder struct {
	stream stream
	pool   *sync.Pool // where it goes back to
	unsent bool       // something was written since the last flush
}

// Write compresses p. Little of it may reach the client before Flush or Close.
func (e *Encoder) Write(p []byte) (int, error) {
	e.unsent = e.unsent || len(p) > 0
	return e.stream.Write(p)
}

// Flush passes on all that was written, in a form that the client can read up to here.
func (e *Encoder) Flush() error {
	if !e.unsent {
		return nil // a flush of nothing would cost bytes all the same.
	}
	e.unsent = false
	return e.stream.Flush()
}

// Close ends the compressed body. A body that was cut must not be closed, or the client
// would take it for whole.
func (e *Encoder) Close() error { return e.stream.Close() }

// Release gives the Encoder's memory back; it must not be used any more.
func (e *Encoder) Release() {
	e.stream.Reset(io.Discard)
	e.unsent = false
	e.pool.Put(e)
}
