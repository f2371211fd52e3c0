package zookeeper

import (
	"encoding/binary"
	"io"
	"maps"
	"net"
	"sync"
	"testing"

	"github.com/go-zookeeper/zk"
)

// fake speaks enough of ZooKeeper's protocol to a reader to have faults that the
// real server cannot be brought to. It serves a model.
type fake struct {
	listener net.Listener
	workers  sync.WaitGroup

	mu       sync.Mutex
	m        *model
	session  int64
	conn     net.Conn // the last one
	accepted int

	// Faults, all off at first.
	greeting     []byte                     // sent in place of everything else
	silentRenew  bool                       // each connection gets a new session without a word
	loseWatches  bool                       // watches are not restored
	loseReply    func(op op, p string) bool // no answer
	failReply    func(op op, p string) bool // an error that says nothing
	afterGreeted []byte                     // sent behind the handshake
}

// Operation codes and errors of the protocol.
const (
	wireExists, wireGetData, wirePing, wireGetChildren = 3, 4, 11, 12
	wireAuth, wireSetWatches, wireClose                = 100, 101, -11
	wireNoNode, wireSystemError                        = -101, -1
)

func newFake(t testing.TB) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{listener: listener, m: newModel(), session: 1}
	f.workers.Go(f.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		f.breakConn()
		f.workers.Wait()
	})
	return f
}

func (f *fake) addr() string { return f.listener.Addr().String() }

// change runs do on the model and sends what it fires.
func (f *fake) change(do func(*model)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(f.m)
	for _, e := range f.m.events {
		body := binary.BigEndian.AppendUint32(header(-1, -1, 0), uint32(e.what))
		body = binary.BigEndian.AppendUint32(body, uint32(zk.StateSyncConnected))
		f.send(appendString(body, e.path))
	}
	f.m.events = nil
}

// faulty sets faults.
func (f *fake) faulty(do func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(f)
}

func (f *fake) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.accepted
}

func (f *fake) breakConn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		_ = f.conn.Close()
	}
}

func (f *fake) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conn = conn
		f.accepted++
		f.mu.Unlock()
		f.workers.Go(func() {
			defer conn.Close()
			f.serve(conn)
		})
	}
}

func (f *fake) serve(conn net.Conn) {
	if _, err := readPacket(conn); err != nil {
		return
	}
	f.mu.Lock()
	if f.greeting != nil {
		_, _ = conn.Write(f.greeting)
		f.mu.Unlock()
		_, _ = io.Copy(io.Discard, conn) // until the other side has enough
		return
	}
	if f.silentRenew {
		f.session++
		clear(f.m.watches)
	}
	if f.loseWatches {
		clear(f.m.watches)
	}
	f.send(f.hello())
	if f.afterGreeted != nil {
		_, _ = conn.Write(f.afterGreeted)
	}
	f.mu.Unlock()
	for {
		packet, err := readPacket(conn)
		if err != nil || len(packet) < 8 {
			return
		}
		f.mu.Lock()
		f.answer(packet)
		f.mu.Unlock()
	}
}

func (f *fake) hello() []byte {
	body := binary.BigEndian.AppendUint64(nil, 1000) // version 0, session time-out 1 s
	body = binary.BigEndian.AppendUint64(body, uint64(f.session))
	return append(binary.BigEndian.AppendUint32(body, 16), make([]byte, 16)...)
}

// answer carries out a request. f.mu is held.
func (f *fake) answer(packet []byte) {
	xid, code := int32(binary.BigEndian.Uint32(packet)), int32(binary.BigEndian.Uint32(packet[4:]))
	ops := map[int32]op{wireExists: opVerify, wireGetData: opData, wireGetChildren: opList}
	kind, reads := ops[code]
	if !reads {
		if code == wirePing || code == wireAuth || code == wireSetWatches || code == wireClose {
			f.send(header(xid, f.m.zxid, 0))
		}
		return
	}
	length := binary.BigEndian.Uint32(packet[8:])
	p, watch := string(packet[12:12+length]), packet[12+length] != 0
	if kind == opVerify && watch {
		kind = opAwait
	}
	if f.loseReply != nil && f.loseReply(kind, p) {
		return
	}
	if f.failReply != nil && f.failReply(kind, p) {
		f.send(header(xid, f.m.zxid, wireSystemError))
		return
	}
	armed := maps.Clone(f.m.watches)
	answer := f.m.answer(read{op: kind, path: p})
	if !watch {
		f.m.watches = armed
	}
	if answer.outcome == missing {
		f.send(header(xid, f.m.zxid, wireNoNode))
		return
	}
	body := header(xid, f.m.zxid, 0)
	switch kind {
	case opData:
		body = appendString(body, string(answer.data))
	case opList:
		body = binary.BigEndian.AppendUint32(body, uint32(len(answer.names)))
		for _, name := range answer.names {
			body = appendString(body, name)
		}
	}
	f.send(appendStat(body, answer.stat))
}

// send writes a packet. f.mu is held.
func (f *fake) send(body []byte) {
	_, _ = f.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
}

func readPacket(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, packet)
	return packet, err
}

func header(xid int32, zxid int64, code int32) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(xid))
	b = binary.BigEndian.AppendUint64(b, uint64(zxid))
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendStat(b []byte, s stamp) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(s.created))
	b = binary.BigEndian.AppendUint64(b, uint64(s.modified))
	b = append(b, make([]byte, 44)...) // times, versions, owner, sizes
	return binary.BigEndian.AppendUint64(b, uint64(s.children))
}
