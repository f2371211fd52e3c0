package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// http3Node is a drover with one listener that speaks HTTP/3. The kernel chooses the
// port, since it must be free for both TCP and UDP.
type http3Node struct {
	*node

	peer *peer
	dir  string
	name string // of the listener
}

func startHTTP3Node(t *testing.T) *http3Node {
	t.Helper()
	h := &http3Node{peer: startPeer(t, "a"), dir: t.TempDir(), name: "web"}
	writePair(t, h.dir, 1)
	h.node = startNode(t, h.yaml("http3: {}"))
	return h
}

// yaml is the configuration with further settings of the listener.
func (h *http3Node) yaml(settings string) string {
	return fmt.Sprintf(`listeners:
  - { name: %s, address: "127.0.0.1:0", tls: { certificates: [ { cert_file: %q, key_file: %q } ] }, %s }
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, h.name, filepath.Join(h.dir, "site.pem"), filepath.Join(h.dir, "site.key"), settings, h.peer.address)
}

func (h *http3Node) address() string { return h.listeners[h.name].socket.ln.Addr().String() }

// change reloads with further settings of the listener.
func (h *http3Node) change(t *testing.T, settings string) {
	t.Helper()
	h.write(t, h.yaml(settings))
	h.mustReload(t)
}

func http3Client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http3.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		QUICConfig:      &quic.Config{HandshakeIdleTimeout: time.Second},
	}
	t.Cleanup(func() { _ = tr.Close() })
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// TestHTTP3Reload: requests over HTTP/3 go on, without one that fails, through a
// certificate's renewal, other settings, and another name of the listener, which makes
// another front.
func TestHTTP3Reload(t *testing.T) {
	h := startHTTP3Node(t)
	url := "https://" + h.address()
	ctx, stop := context.WithCancel(t.Context())
	var asked, failed atomic.Int64
	var load sync.WaitGroup
	for range 4 {
		c := http3Client(t)
		load.Go(func() {
			for ctx.Err() == nil {
				resp, err := c.Get(url + "/")
				asked.Add(1)
				if err != nil {
					failed.Add(1)
					t.Error(err)
					continue
				}
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 3 {
					failed.Add(1)
					t.Errorf("got %d over HTTP/%d, %v", resp.StatusCode, resp.ProtoMajor, err)
				}
			}
		})
	}
	for round, step := range []func(){
		func() { writePair(t, h.dir, 2); h.mustReload(t) },
		func() { h.change(t, "http3: { max_streams: 50 }") },
		func() { h.change(t, "http3: {}, max_header_size: 16KiB") },
		func() { h.name = "other"; h.change(t, "http3: {}, max_header_size: 16KiB") },
	} {
		before := asked.Load()
		step()
		eventually(t, fmt.Sprintf("requests after change %d", round), func() bool { return asked.Load() >= before+50 })
	}
	stop()
	load.Wait()
	if failed.Load() > 0 || asked.Load() < 200 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	if got := h.serialOverQUIC(t); got != 2 {
		t.Errorf("new connections see certificate %d; want 2", got)
	}
}

func (h *http3Node) serialOverQUIC(t *testing.T) int64 {
	t.Helper()
	qc, err := quic.DialAddr(t.Context(), h.address(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer qc.CloseWithError(0, "")
	return qc.ConnectionState().TLS.PeerCertificates[0].SerialNumber.Int64()
}

// TestHTTP3OnAndOff: HTTP/3 comes and goes with the configuration, while clients over TCP
// notice nothing.
func TestHTTP3OnAndOff(t *testing.T) {
	h := startHTTP3Node(t)
	url := "https://" + h.address() + "/"
	quicClient, tcp := http3Client(t), client(t, true)
	tcp.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	tells := func(want string) {
		t.Helper()
		if resp, _ := fetch(t, tcp, "GET", url, ""); resp.Header.Get("Alt-Svc") != want {
			t.Errorf("got Alt-Svc %q; want %q", resp.Header.Get("Alt-Svc"), want)
		}
	}
	port := h.listeners["web"].quic.Addr().Port()
	fetch(t, quicClient, "GET", url, "")
	tells(fmt.Sprintf(`h3=":%d"; ma=86400`, port))

	h.change(t, "keep_alive_timeout: 20s")
	h.drains.Wait()
	tells("")
	if resp, err := quicClient.Get(url); err == nil {
		t.Errorf("got %d over QUIC; want nobody there", resp.StatusCode)
	}

	h.write(t, h.yaml("http3: { advertise_for: 1h }"))
	eventually(t, "the port is free again", func() bool { return h.reloadFile(t.Context()) == nil })
	fetch(t, quicClient, "GET", url, "")
	tells(fmt.Sprintf(`h3=":%d"; ma=3600`, port))
}

// TestHTTP3PortTaken: a UDP port that somebody else has refuses the configuration as a
// whole, and gives back what was taken for it.
func TestHTTP3PortTaken(t *testing.T) {
	h := startHTTP3Node(t)
	h.change(t, "keep_alive_timeout: 20s")
	h.drains.Wait()
	var taken net.PacketConn
	eventually(t, "the port is free again", func() bool {
		var err error
		taken, err = net.ListenPacket("udp", h.address())
		return err == nil
	})
	h.write(t, h.yaml("http3: {}"))
	err := h.reloadFile(t.Context())
	if err == nil || !strings.Contains(err.Error(), `cannot listen on "127.0.0.1:0" for HTTP/3`) {
		t.Errorf("got %v", err)
	}
	if h.listeners["web"].cfg.HTTP3 != nil {
		t.Error("half a configuration is in force")
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port is free again", func() bool { return h.reloadFile(t.Context()) == nil })
}

// TestHTTP3Shutdown: on the way out a request that runs is answered.
func TestHTTP3Shutdown(t *testing.T) {
	h := startHTTP3Node(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		_, _ = io.WriteString(w, "done")
	})
	h.peer.handler.Store(&handler)
	got := make(chan error, 1)
	c := http3Client(t)
	url := "https://" + h.address() + "/"
	go func() {
		resp, err := c.Get(url)
		if err == nil {
			var text []byte
			defer resp.Body.Close()
			if text, err = io.ReadAll(resp.Body); err == nil && string(text) != "done" {
				err = errors.New(string(text))
			}
		}
		got <- err
	}()
	<-begun
	down := make(chan struct{})
	go func() {
		defer close(down)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		h.shutdown(ctx)
	}()
	eventually(t, "draining begins", h.draining.Load)
	close(finish)
	if err := <-got; err != nil {
		t.Error(err)
	}
	<-down
}

// TestChromiumHTTP3: a browser loads a page and its 100 assets over HTTP/3.
func TestChromiumHTTP3(t *testing.T) {
	h := startHTTP3Node(t)
	gallery := http.HandlerFunc(serveGallery)
	h.peer.handler.Store(&gallery)
	// Chromium speaks QUIC only where it believes the certificate.
	pair, err := tls.LoadX509KeyPair(filepath.Join(h.dir, "site.pem"), filepath.Join(h.dir, "site.key"))
	if err != nil {
		t.Fatal(err)
	}
	believed := sha256.Sum256(pair.Leaf.RawSubjectPublicKeyInfo)
	browseGallery(t, "h3", "https://"+h.address(), "--enable-quic", "--origin-to-force-quic-on="+h.address(),
		"--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(believed[:]))
}
