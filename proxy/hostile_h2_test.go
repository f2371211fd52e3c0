package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// headOf is what "$get" and "$post" stand for.
func headOf(method string) string {
	return ":method: " + method + " | :scheme: http | :authority: a.test | :path: /p"
}

// framePeer speaks HTTP/2 frame by frame, as the client or the server.
type framePeer struct {
	*http2.Framer
	net.Conn
	buf     bytes.Buffer
	enc     *hpack.Encoder
	streams map[uint32]*message // that have not ended
}

func newFramePeer(c net.Conn, r io.Reader) *framePeer {
	p := &framePeer{Framer: http2.NewFramer(c, r), Conn: c, streams: map[uint32]*message{}}
	p.enc = hpack.NewEncoder(&p.buf)
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.AllowIllegalWrites = true
	_ = p.WriteSettings() // whoever reads sees what is wrong.
	_ = p.WriteSettingsAck()
	return p
}

// dialFrames connects a client that speaks HTTP/2 in frames of the corpus.
func (b *bed) dialFrames(t *testing.T) *framePeer {
	t.Helper()
	c := b.connect(t)
	_, _ = io.WriteString(c, http2.ClientPreface) // see newFramePeer.
	return newFramePeer(c, c)
}

// acceptH2 is the server's side, nil for a client that speaks something else.
func acceptH2(c net.Conn, r *bufio.Reader) *framePeer {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(r, preface); err != nil || string(preface) != http2.ClientPreface {
		return nil
	}
	return newFramePeer(c, r)
}

// frame is one of the corpus; its README says how they are written.
type frame struct {
	kind, text string
	end        bool
	times      int
}

func parseFrame(text string) frame {
	f := frame{times: 1}
	f.kind, f.text, _ = strings.Cut(text, " ")
	if n, err := strconv.Atoi(f.kind); err == nil {
		f.times = n
		f.kind, f.text, _ = strings.Cut(f.text, " ")
	}
	if rest, ok := strings.CutPrefix(f.text+" ", "END "); ok {
		f.text, f.end = strings.TrimSuffix(rest, " "), true
	}
	return f
}

// fields gives those of a HEADERS.
func (f frame) fields() (fields []pair) {
	if f.text == "" {
		return nil
	}
	for line := range strings.SplitSeq(f.text, " | ") {
		name, value, _ := strings.Cut(line[1:], ":") // behind the first byte, a pseudo-field's too.
		fields = append(fields, pair{line[:1] + name, strings.TrimPrefix(value, " ")})
	}
	return fields
}

// say writes frames on a stream.
func (p *framePeer) say(id uint32, frames ...string) {
	for _, text := range frames {
		f := parseFrame(text)
		for range f.times {
			if p.write(id, f) != nil {
				return // the other side has left, which the test sees.
			}
		}
	}
}

func (p *framePeer) write(id uint32, f frame) error {
	switch f.kind {
	case "HEADERS":
		return p.head(id, f)
	case "DATA":
		return p.WriteData(id, f.end, []byte(f.text))
	case "RST":
		return p.WriteRSTStream(id, http2.ErrCodeCancel)
	case "GOAWAY":
		return p.WriteGoAway(id, http2.ErrCodeNo, nil)
	case "CLOSE":
		return p.Close()
	}
	panic("no frame: " + f.kind)
}

func (p *framePeer) head(id uint32, f frame) error {
	p.buf.Reset()
	for _, field := range f.fields() {
		_ = p.enc.WriteField(hpack.HeaderField{Name: field.name, Value: field.value}) // to memory.
	}
	const most = 16 << 10
	block := p.buf.Bytes()
	part := block[:min(len(block), most)]
	block = block[len(part):]
	err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: f.end, EndHeaders: len(block) == 0, BlockFragment: part})
	for err == nil && len(block) > 0 {
		part = block[:min(len(block), most)]
		block = block[len(part):]
		err = p.WriteContinuation(id, len(block) == 0, part)
	}
	return err
}

// errGone is a connection's end.
var errGone = errors.New("the connection ends")

// next reads until a message ends. One that is reset is cut. Where the connection ends,
// there is no stream.
func (p *framePeer) next() (id uint32, m *message, err error) {
	for {
		f, err := p.ReadFrame()
		var wrong http2.StreamError
		switch {
		case errors.As(err, &wrong):
			return wrong.StreamID, nil, fmt.Errorf("%w: %w", errBad, err)
		case err != nil:
			return 0, nil, fmt.Errorf("%w: %w", errGone, err)
		}
		id := f.Header().StreamID
		m := p.streams[id]
		if m == nil {
			m = &message{h2: true}
			p.streams[id] = m
		}
		ended := false
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			m.takeHead(f)
			ended = f.StreamEnded()
		case *http2.DataFrame:
			m.body += string(f.Data())
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			delete(p.streams, id)
			return id, m, fmt.Errorf("%w: %s", errCut, f.ErrCode)
		case *http2.GoAwayFrame:
			return 0, nil, fmt.Errorf("%w: GOAWAY %s", errGone, f.ErrCode)
		}
		if ended {
			delete(p.streams, id)
			return id, m, nil
		}
	}
}

// headed waits for the head of a stream's message.
func (p *framePeer) headed(t *testing.T, id uint32) {
	t.Helper()
	for p.streams[id] == nil {
		f, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := f.(*http2.MetaHeadersFrame); ok {
			p.streams[f.StreamID] = &message{h2: true}
			p.streams[f.StreamID].takeHead(f)
		}
	}
}

// ask makes a request and reads its answer.
func (p *framePeer) ask(id uint32, frames ...string) (*message, error) {
	for p.say(id, frames...); ; {
		got, m, err := p.next()
		if got == id || got == 0 {
			return m, err
		}
	}
}

// takeHead takes the head, an interim one, or the trailers.
func (m *message) takeHead(f *http2.MetaHeadersFrame) {
	var fields []pair
	for _, field := range f.Fields {
		fields = append(fields, pair{field.Name, field.Value})
	}
	m.takeFields(fields)
}

func (m *message) takeFields(fields []pair) {
	if m.method != "" || m.status != 0 {
		m.trailers = fields
		return
	}
	head := &message{h2: true}
	for _, f := range fields {
		switch f.name {
		case ":method":
			head.method = f.value
		case ":path":
			head.target = f.value
		case ":authority":
			head.host = f.value
		case ":status":
			head.status, _ = strconv.Atoi(f.value) // 0 is wrong enough.
		default:
			if head.host == "" && f.name == "host" {
				head.host = f.value
			}
			if !strings.HasPrefix(f.name, ":") {
				head.fields = append(head.fields, f)
			}
		}
	}
	if head.status != 0 && head.status < 200 {
		m.interim = append(m.interim, head)
		return
	}
	m.method, m.target, m.host, m.status, m.fields = head.method, head.target, head.host, head.status, head.fields
}

// readFrames is what frames of the corpus say.
func readFrames(frames []string) *message {
	m := &message{h2: true}
	for _, text := range frames {
		f := parseFrame(text)
		for range f.times {
			switch f.kind {
			case "HEADERS":
				m.takeFields(f.fields())
			case "DATA":
				m.body += f.text
			}
		}
		if f.end {
			break
		}
	}
	return m
}

func (rec *recorder) playH2(c net.Conn, r *bufio.Reader) {
	conn := rec.connection()
	p := acceptH2(c, r)
	for p != nil {
		id, m, err := p.next()
		if id == 0 {
			return
		}
		if rec.note(conn, m, err); err == nil {
			p.say(id, "HEADERS END :status: 200 | content-length: 0")
		}
	}
}

// tryH2 sends a message in frames.
func (tr *trial) tryH2(t *testing.T, h hostile) {
	v := tr.dialFrames(t)
	resp, err := v.ask(1, h.frames...)
	switch h.want {
	case "GOAWAY":
		if !errors.Is(err, errGone) {
			t.Errorf("got %+v, %v; want the connection's end", resp, err)
		}
		tr.nothing(t)
		return
	case "RST":
		if !errors.Is(err, errCut) || resp.status != 0 {
			t.Errorf("got %+v, %v; want the stream's end", resp, err)
		}
		tr.nothing(t)
	case "forward":
		if err != nil || resp.status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
		tr.compare(t, tr.arrived(t), readFrames(h.frames))
	default:
		if err != nil || fmt.Sprint(resp.status) != h.want {
			t.Errorf("got %+v, %v; want status %s", resp, err, h.want)
		}
		tr.nothing(t)
	}
	// The connection goes on, its table in step.
	if resp, err := v.ask(3, "HEADERS END :method: GET | :scheme: http | :authority: a.test | :path: /next"); err != nil || resp.status != 200 {
		t.Fatalf("the next request got %+v, %v", resp, err)
	}
	if next := tr.arrived(t); next.target != "/next" {
		t.Errorf("got %s; want /next", next.target)
	}
}
