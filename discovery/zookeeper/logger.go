package zookeeper

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// logEvery is how often one kind of message of the client library is logged.
const logEvery = 10 * time.Second

// libraryLogger takes the client library's messages. It repeats each failed attempt
// for as long as an ensemble is away, so each kind is logged once in a while, with
// the number of those left out.
type libraryLogger struct {
	ctx    context.Context // of the session: what breaks while it closes is no news
	logger *zap.Logger
	now    func() time.Time

	mu    sync.Mutex
	kinds map[string]*logKind // by format string: there are about a dozen
}

type logKind struct {
	last    time.Time
	dropped int
}

func newLibraryLogger(ctx context.Context, logger *zap.Logger) *libraryLogger {
	return &libraryLogger{ctx: ctx, logger: logger, now: time.Now, kinds: map[string]*logKind{}}
}

// Printf implements zk.Logger.
func (l *libraryLogger) Printf(format string, args ...any) {
	if l.ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	kind := l.kinds[format]
	if kind == nil {
		kind = &logKind{}
		l.kinds[format] = kind
	}
	now := l.now()
	if !kind.last.IsZero() && now.Sub(kind.last) < logEvery {
		kind.dropped++
		l.mu.Unlock()
		return
	}
	dropped := kind.dropped
	kind.last, kind.dropped = now, 0
	l.mu.Unlock()
	l.logger.Warn("client: "+fmt.Sprintf(format, args...), zap.Int("similar_left_out", dropped))
}
