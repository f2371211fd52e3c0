package h2

import (
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// A client's frames that lead to nothing are counted: resets of streams that were not
// answered yet, settings, pings, empty frames, and so on. What leads somewhere earns
// the right to some of them. The rest is paid from a purse that fills slowly, so that
// no flood lasts and no odd client is shown the door (CVE-2019-9511 to 9518,
// CVE-2023-44487, CVE-2025-8671).
const (
	purse       = 500 // useless frames at once
	pursePerSec = 20  // and then as many each second

	costFrame = 1
	// A piece of data of this size earns a frame, and a smaller one a part of it: else a
	// client could have an answer byte by byte, and each byte would pay for the
	// WINDOW_UPDATE that asks for the next (CVE-2019-9511).
	bite = 512
	// costReset is what a stream costs that ends before its answer.
	costReset = 1
	// costAnswered is what the reset of a stream costs whose answer was out already: its
	// client wanted the work and not the answer.
	costAnswered = 5
	// costBroken is what a stream costs that we had to break.
	costBroken = 5
	// costTooLarge is what a header block costs that is over the limits: decoding it
	// was our work.
	costTooLarge = 20

	// maxContinuations bounds the frames of one header block.
	maxContinuations = 32

	// stalledStreams is how many streams without room in the client's windows are
	// suspicious, and stalledFor how long it may then take none at all.
	stalledStreams = 32
	stalledFor     = 5 * time.Second
)

// calm is the purse. It belongs to the reader's goroutine; others pay in by earn.
type calm struct {
	left   float64
	filled time.Time
	earned *earnings
}

func (p *calm) start(now time.Time) { p.left, p.filled, p.earned = purse, now, &earnings{} }

// pay takes from the purse.
func (p *calm) pay(cost float64) { p.left -= cost }

// earn pays in, from the reader's goroutine.
func (p *calm) earn(n float64) { p.left = min(p.left+n, purse) }

// earnings count what handlers have done for a connection's purse, in parts of a bite.
type earnings struct{ n atomic.Int64 }

func (e *earnings) add(frames int64) { e.n.Add(frames * bite) }

// sent counts a piece of an answer, for which a client may send two WINDOW_UPDATEs.
func (e *earnings) sent(size int) { e.n.Add(2 * int64(min(size, bite))) }

func (e *earnings) take() (frames float64) { return float64(e.n.Swap(0)) / bite }

// flood ends a connection that has spent everything.
func (c *Conn) flood() error {
	p := &c.calm
	if p.left >= 0 {
		return nil
	}
	now := time.Now()
	p.earn(now.Sub(p.filled).Seconds()*pursePerSec + p.earned.take())
	p.filled = now
	if p.left >= 0 {
		return nil
	}
	return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
}

// stall notes that a stream waits for room. The caller holds mu.
func (c *Conn) stall() {
	c.stalled++
	if c.stalled < stalledStreams || c.stallTimer != nil {
		return
	}
	c.sentAt = time.Now()
	c.stallTimer = time.AfterFunc(stalledFor, c.checkStall)
}

// checkStall ends a connection on which many streams wait and none gets on.
func (c *Conn) checkStall() {
	c.mu.Lock()
	idle := time.Since(c.sentAt)
	switch {
	case c.stalled < stalledStreams || c.isBroken():
		c.stallTimer = nil
		idle = 0
	case idle < stalledFor:
		c.stallTimer.Reset(stalledFor - idle)
		idle = 0
	}
	c.mu.Unlock()
	if idle > 0 {
		c.fail(http2.ConnectionError(http2.ErrCodeEnhanceYourCalm))
	}
}
