package front

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// TicketSecret is what the key of session tickets is made from.
type TicketSecret [32]byte

// TicketSource gives the secrets of session tickets, newest first: the first encrypts,
// all decrypt. It is asked at every handshake, by one goroutine at a time, and should
// answer from memory or nearly so. With an error it may still give secrets; if it gives
// none, those in force stay.
type TicketSource interface {
	Secrets(now time.Time) ([]TicketSecret, error)
}

const (
	ticketSecrets = 3              // how many are kept
	ownRotation   = 24 * time.Hour // of secrets of the process's own
	maxSecrets    = 64             // in a file
	staleLock     = time.Minute
)

// tickets puts a source's secrets in force, each made into a key for these terms alone.
type tickets struct {
	// immutable once SetTLS has it
	context []byte // see clientAuth.context
	source  TicketSource

	// atomic
	failed atomic.Bool // the last failure was logged

	// under mu
	mu      sync.Mutex
	inForce []TicketSecret
}

// refresh takes what is new. Whoever finds another at it goes on with what there is.
func (t *tickets) refresh(cfg *tls.Config, now time.Time) error {
	if !t.mu.TryLock() {
		return nil
	}
	defer t.mu.Unlock()
	secrets, err := t.source.Secrets(now)
	if err == nil {
		t.failed.Store(false)
	}
	if len(secrets) == 0 || slices.Equal(secrets, t.inForce) {
		return err
	}
	keys := make([][32]byte, len(secrets))
	for i := range secrets {
		mac := hmac.New(sha256.New, secrets[i][:])
		_, _ = mac.Write([]byte("drover session tickets")) // a hash takes all.
		_, _ = mac.Write(t.context)
		mac.Sum(keys[i][:0])
	}
	cfg.SetSessionTicketKeys(keys)
	t.inForce = secrets
	return err
}

// inherit goes on with the secrets of the settings before, if both are the process's
// own.
func (t *tickets) inherit(old *tickets, cfg *tls.Config) {
	_, own := t.source.(*ownSecrets)
	if was, ok := old.source.(*ownSecrets); ok && own {
		old.mu.Lock()
		secrets, since := slices.Clone(was.secrets), was.since
		old.mu.Unlock()
		t.source = &ownSecrets{secrets: secrets, since: since}
		_ = t.refresh(cfg, time.Now()) // memory does not fail.
	}
}

// ownSecrets are those of a process that shares none.
type ownSecrets struct {
	// under tickets.mu
	secrets []TicketSecret
	since   time.Time
}

// Secrets implements TicketSource.
func (o *ownSecrets) Secrets(now time.Time) ([]TicketSecret, error) {
	if len(o.secrets) == 0 || now.Sub(o.since) >= ownRotation {
		o.secrets, o.since = withNewSecret(o.secrets), now
	}
	return o.secrets, nil
}

func withNewSecret(old []TicketSecret) []TicketSecret {
	var fresh TicketSecret
	_, _ = rand.Read(fresh[:]) // it never fails.
	return append([]TicketSecret{fresh}, old[:min(len(old), ticketSecrets-1)]...)
}

// fileSecrets are those of all who share a file. It is read at every handshake, which
// costs a hundredth of one and sees each change: neither its time nor its size would.
type fileSecrets struct {
	path  string
	every time.Duration // 0: others rotate
}

// Secrets implements TicketSource.
func (f *fileSecrets) Secrets(now time.Time) ([]TicketSecret, error) {
	content, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := f.replace(nil, os.Link); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("cannot make the file of session tickets' keys: %w", err)
		}
		content, err = os.ReadFile(f.path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read session tickets' keys: %w", err)
	}
	secrets, err := parseSecrets(content)
	if err != nil {
		return nil, fmt.Errorf("cannot use session tickets' keys of %q: %w", f.path, err)
	}
	if !f.due(now) {
		return secrets, nil
	}
	if err := f.rotate(now, secrets); err != nil {
		return secrets, fmt.Errorf("cannot rotate session tickets' keys: %w", err)
	}
	return secrets, nil // the next handshake finds the new one.
}

func (f *fileSecrets) due(now time.Time) bool {
	info, err := os.Stat(f.path)
	return err == nil && f.every > 0 && now.Sub(info.ModTime()) >= f.every
}

// rotate puts a new secret in front, unless another drover is at it or has been. A lock
// whose owner has died is taken away; should two find it at the same moment, both
// rotate, one secret is lost and a few clients shake hands in full.
func (f *fileSecrets) rotate(now time.Time, secrets []TicketSecret) error {
	lock := f.path + ".lock"
	held, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if info, err := os.Stat(lock); err == nil && now.Sub(info.ModTime()) > staleLock {
			return os.Remove(lock)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer func() {
		_ = held.Close() // nothing was written.
		_ = os.Remove(lock)
	}()
	if !f.due(now) {
		return nil
	}
	return f.replace(secrets, os.Rename)
}

// replace writes the file with a new secret in front, as a whole.
func (f *fileSecrets) replace(old []TicketSecret, put func(from, to string) error) error {
	temp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // where it is still there.
	_, err = temp.Write(formatSecrets(withNewSecret(old)))
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return put(temp.Name(), f.path)
}

// formatSecrets writes what parseSecrets reads.
func formatSecrets(secrets []TicketSecret) (text []byte) {
	for _, secret := range secrets {
		text = append(hex.AppendEncode(text, secret[:]), '\n')
	}
	return text
}

// parseSecrets reads one secret a line; empty lines and those with # do not count.
func parseSecrets(content []byte) ([]TicketSecret, error) {
	var secrets []TicketSecret
	for i, line := range bytes.Split(content, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		secret, err := hex.DecodeString(string(line))
		if err != nil {
			secret, err = base64.StdEncoding.DecodeString(string(line))
		}
		if err != nil || len(secret) != len(TicketSecret{}) {
			return nil, fmt.Errorf("got a line %d that is none; want 32 bytes in hex or base64", i+1)
		}
		secrets = append(secrets, TicketSecret(secret))
	}
	if len(secrets) == 0 || len(secrets) > maxSecrets {
		return nil, fmt.Errorf("got %d keys; want 1 to %d", len(secrets), maxSecrets)
	}
	return secrets, nil
}
