package zookeeper

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A lost connection is replaced at once; failed rounds, and connections that do not
// last, are followed by longer and longer waits; a lasting connection ends that.
func TestMembersTakeTurns(t *testing.T) {
	now := time.Unix(1e9, 0)
	m := newMembers()
	m.now = func() time.Time { return now }
	m.random = func() float64 { return 0.5 }
	if err := m.Init([]string{"a", "b", "c"}); err != nil || m.Len() != 3 {
		t.Fatal(err, m.Len())
	}
	f := func(server string, roundOver bool, delay time.Duration) {
		t.Helper()
		gotServer, gotOver := m.Next()
		if got := m.delay(); gotServer != server || gotOver != roundOver || got != delay {
			t.Fatalf("got %s, round over %v, wait %v; want %s, %v, %v", gotServer, gotOver, got, server, roundOver, delay)
		}
	}
	f("b", false, 50*time.Millisecond)
	f("c", false, 0)
	f("a", false, 0)
	f("b", true, 250*time.Millisecond)
	f("c", false, 0)
	f("a", false, 0)
	f("b", true, 500*time.Millisecond)
	m.Connected()
	now = now.Add(time.Second)
	f("c", false, time.Second) // it did not last
	m.Connected()
	for range 20 {
		now = now.Add(time.Second)
		m.Next()
		m.Connected()
	}
	m.Next()
	if got := m.delay(); got != maxBackoff/2 {
		t.Fatalf("waits %v; want %v", got, maxBackoff/2)
	}
	m.Connected()
	now = now.Add(time.Hour)
	f("a", false, 50*time.Millisecond)
}

// The wait before a dial ends with its context.
func TestDialEndsWithItsContext(t *testing.T) {
	m := newMembers()
	m.random = func() float64 { return 1 }
	m.rounds, m.tried = 9, 1
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d := &dialer{timeout: time.Minute, resolve: lookUp, members: m}
	if _, err := d.dial(ctx, "127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// script is a connection that plays bytes and notes the deadlines.
type script struct {
	net.Conn
	in        io.Reader
	deadlines []time.Time
}

func (s *script) Read(p []byte) (int, error)         { return s.in.Read(p) }
func (s *script) SetDeadline(t time.Time) error      { s.deadlines = append(s.deadlines, t); return nil }
func (s *script) SetReadDeadline(t time.Time) error  { return s.SetDeadline(t) }
func (s *script) SetWriteDeadline(t time.Time) error { return s.SetDeadline(t) }

func packet(length int) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(length)), make([]byte, length)...)
}

// Until the handshake is over its deadline stands, whatever the client asks for.
func TestGuardBoundsTheHandshake(t *testing.T) {
	end, later := time.Unix(100, 0), time.Unix(999, 0)
	s := &script{in: bytes.NewReader(packet(37))}
	g, err := newGuardConn(s, end)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []func(time.Time) error{g.SetReadDeadline, g.SetWriteDeadline, g.SetDeadline} {
		if err := set(later); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(g, make([]byte, 41)); err != nil {
		t.Fatal(err)
	}
	if err := g.SetReadDeadline(later); err != nil {
		t.Fatal(err)
	}
	if want := []time.Time{end, end, end, end, {}, later}; !slices.Equal(s.deadlines, want) {
		t.Fatalf("deadlines %v; want %v", s.deadlines, want)
	}
}

// FuzzGuard compares guardConn with the obvious check of the whole stream.
func FuzzGuard(f *testing.F) {
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n"), uint8(3))
	f.Add(append(packet(37), packet(16)...), uint8(1))
	f.Add(append(packet(36), 0, 0, 0, 4, 1, 2, 3, 4), uint8(200))
	f.Add([]byte{0, 0, 0, 36, 1}, uint8(5))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		good, bad := 0, false
		for least, most := minHello, maxHello; good+4 <= len(stream); least, most = minPacket, maxPacket {
			length := int(binary.BigEndian.Uint32(stream[good:]))
			if length < least || length > most {
				bad = true
				break
			}
			good = min(len(stream), good+4+length)
		}
		if !bad {
			good = len(stream)
		}
		g, err := newGuardConn(&script{in: bytes.NewReader(stream)}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for p := make([]byte, int(size)+1); err == nil; {
			var n int
			n, err = g.Read(p)
			got = append(got, p[:n]...)
		}
		// The last byte of a bad length is never passed on.
		if !bytes.HasPrefix(stream, got) || len(got) > good+3 || errors.Is(err, errNotZooKeeper) != bad {
			t.Fatalf("passed %d of %d good bytes, %v; bad: %v", len(got), good, err, bad)
		}
		if !bad && len(got) != good {
			t.Fatalf("passed %d of %d bytes", len(got), good)
		}
	})
}

// What the client library repeats is logged now and then, with a count.
func TestLibraryLoggerLeavesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.WarnLevel)
		ctx, cancel := context.WithCancel(context.Background())
		l := newLibraryLogger(ctx, zap.New(core))
		for i := range 25 {
			l.Printf("failed %d", i)
			l.Printf("other")
			time.Sleep(time.Second) // of the bubble
		}
		if got := logs.Len(); got != 6 {
			t.Fatalf("%d lines; want 3 of each kind", got)
		}
		if got := logs.FilterMessageSnippet("client: ").All()[2].ContextMap()["similar_left_out"]; got != int64(9) {
			t.Fatalf("left out %v; want 9", got)
		}
		cancel()
		time.Sleep(time.Minute)
		l.Printf("connection closed")
		if logs.Len() != 6 {
			t.Fatal("a closing session is no news")
		}
	})
}
