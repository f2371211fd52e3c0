package proxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"drover/exchange"
)

// bodyClient is a client's end of which a test needs the body and the presence.
type bodyClient struct {
	exchange.Client
	left    bool
	once    sync.Once
	aborted chan struct{}
}

func newBodyClient() *bodyClient { return &bodyClient{aborted: make(chan struct{})} }

func (c *bodyClient) Gone() bool { return c.left }

func (c *bodyClient) AbortBody() { c.once.Do(func() { close(c.aborted) }) }

// stalled is a body that never goes on; it fails when it is broken off.
func (c *bodyClient) stalled() io.Reader {
	return readerFunc(func([]byte) (int, error) {
		<-c.aborted
		return 0, io.ErrUnexpectedEOF
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func keepBody(c *bodyClient, source io.Reader, length, limit int64) *replay {
	ex := requestFor("PUT", "a.test", "/")
	ex.Client, ex.Request.ContentLength = c, length
	return keep(ex, source, limit)
}

// TestReplayEndsWhereItsLengthSays: a server that has the whole body may answer before
// the client's reader was asked once more, and that is no reason to close anything.
func TestReplayEndsWhereItsLengthSays(t *testing.T) {
	c := newBodyClient()
	r := keepBody(c, io.MultiReader(strings.NewReader("hello"), c.stalled()), 5, 100)
	got, err := io.ReadAll(r)
	if string(got) != "hello" || err != nil || r.open() || !r.ready() {
		t.Errorf("got %q, %v, open %v, ready %v; want hello, closed and ready", got, err, r.open(), r.ready())
	}
	r.close()
	select {
	case <-c.aborted:
		t.Error("the client's body was broken off at its end")
	default:
	}
}

// TestReplayAbort: an attempt's end frees its reader and leaves the client's body
// alone, until nothing can be sent again.
func TestReplayAbort(t *testing.T) {
	for _, over := range []bool{false, true} {
		c := newBodyClient()
		r := keepBody(c, io.MultiReader(strings.NewReader("hello"), c.stalled()), exchange.LengthUnknown, 100)
		if _, err := io.ReadFull(r, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if over {
			r.forgo()
		}
		failed := make(chan error)
		go func() {
			_, err := r.Read(make([]byte, 1))
			failed <- err
		}()
		r.AbortBody()
		if err := receive(t, failed, "the end of Read"); err == nil {
			t.Error("Read went on")
		}
		select {
		case <-c.aborted:
			if !over {
				t.Error("the client's body was broken off before the last attempt")
			}
		default:
			if over {
				t.Error("the client's body was not broken off after the last attempt")
			}
		}
		r.close()
		receive(t, c.aborted, "the end of the client's body")
	}
}

// TestReplayNotBegun: an answer may come before the first byte of the body was read.
func TestReplayNotBegun(t *testing.T) {
	c := newBodyClient()
	r := keepBody(c, c.stalled(), 5, 100)
	if !r.open() {
		t.Error("a body that was not read is not open")
	}
	r.AbortBody()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, errAttemptOver) || r.filled != nil {
		t.Errorf("read after the attempt: %v, begun %v; want it refused", err, r.filled != nil)
	}
	r.close()
	select {
	case <-c.aborted:
		t.Error("a body that has not begun was broken off")
	default:
	}
}

// TestReplayMemory: never more is kept than the limit takes, and what was sent is not
// kept when nothing is sent again.
func TestReplayMemory(t *testing.T) {
	const limit = 3*replayChunk + 100
	for _, size := range []int{limit, limit + 1, 20 * limit} {
		r := keepBody(newBodyClient(), strings.NewReader(pattern(size)), exchange.LengthUnknown, limit)
		p := make([]byte, 1000)
		for {
			if _, err := r.Read(p); err != nil {
				break
			}
			r.mu.Lock()
			if len(r.chunks) > 4 {
				t.Fatalf("%d bytes: %d chunks are kept; want 4 at most", size, len(r.chunks))
			}
			r.mu.Unlock()
		}
		held := 0
		for _, chunk := range r.chunks {
			if chunk != nil {
				held++
			}
		}
		if want := map[bool]int{true: 4, false: 1}[size == limit]; held != want {
			t.Errorf("%d bytes: %d chunks held at the end; want %d", size, held, want)
		}
		r.close()
	}
}

// TestReplayTwin: whatever the sizes of reads on both sides and the ends of attempts,
// each attempt reads the body from its beginning.
func TestReplayTwin(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		limit := 1 + rnd.IntN(3*replayChunk)
		body := pattern(rnd.IntN(limit + 1))
		if seed%4 == 0 {
			body = pattern(limit + rnd.IntN(limit))
		}
		length := int64(exchange.LengthUnknown)
		if seed%2 == 0 && len(body) <= limit {
			length = int64(len(body))
		}
		sizes := rand.New(rand.NewPCG(seed, 2)) // of the goroutine that fills
		rest := strings.NewReader(body)
		source := readerFunc(func(p []byte) (int, error) { return rest.Read(p[:1+sizes.IntN(len(p))]) })
		r := keepBody(newBodyClient(), source, length, int64(limit))
		for attempt := range 4 {
			if attempt > 0 {
				if !r.ready() {
					break
				}
				r.rewind()
			}
			until := len(body) + 1
			if attempt < 3 && len(body) <= limit {
				until = rnd.IntN(len(body) + 1)
			}
			var got strings.Builder
			var err error
			for p := make([]byte, 40_000); err == nil && got.Len() < until; {
				var n int
				n, err = r.Read(p[:1+rnd.IntN(len(p)-1)])
				got.Write(p[:n])
			}
			if !strings.HasPrefix(body, got.String()) || until > len(body) && (got.Len() < len(body) || !errors.Is(err, io.EOF)) {
				t.Fatalf("seed %d, attempt %d: got %d bytes, %v; want %d, and the same bytes", seed, attempt, got.Len(), err, len(body))
			}
			r.AbortBody()
		}
		if r.ready() != (len(body) <= limit) {
			t.Fatalf("seed %d: ready %v with %d bytes and a limit of %d", seed, r.ready(), len(body), limit)
		}
		r.close()
	}
}
