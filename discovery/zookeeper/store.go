package zookeeper

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// Store keeps secrets that drovers share in znodes. On a session with auth, what it
// makes is for the session's own identity alone, parents that are missing included, and
// what others may read or change is refused: somebody could have put it there. Paths are
// below the chroot, which it does not make. While there is no connection everything
// fails at once.
type Store struct {
	session func() *Session
}

// NewStore makes a store on the session that is in force at each call, nil for none.
func NewStore(session func() *Session) *Store { return &Store{session: session} }

// Value is the content of a znode.
type Value struct {
	Data []byte
	// Version counts the changes. It is Missing where there is no znode.
	Version int32
	// Modified is when it last changed, by the ensemble's clock.
	Modified time.Time
}

// Missing is the version of a znode that does not exist.
const Missing = -1

// Get reads a znode. All that any client wrote before the call counts, whichever member
// of the ensemble took it.
func (s *Store) Get(ctx context.Context, path string) (Value, error) {
	v, err := ask(ctx, s, func(z *Session, conn *zk.Conn) (Value, error) {
		if _, err := conn.Sync(z.absolute(path)); err != nil {
			return Value{}, err
		}
		if err := z.private(conn, path); err != nil {
			return Value{}, err
		}
		data, stat, err := conn.Get(z.absolute(path))
		if err != nil {
			return Value{}, err
		}
		return Value{Data: data, Version: stat.Version, Modified: time.UnixMilli(stat.Mtime)}, nil
	})
	if errors.Is(err, zk.ErrNoNode) {
		return Value{Version: Missing}, nil
	}
	if err != nil {
		return Value{}, fmt.Errorf("cannot read znode %q: %w", path, err)
	}
	return v, nil
}

// Put writes a znode, whatever it held.
func (s *Store) Put(ctx context.Context, path string, data []byte) error {
	_, err := ask(ctx, s, func(z *Session, conn *zk.Conn) (struct{}, error) {
		err := z.set(conn, path, data)
		if errors.Is(err, zk.ErrNoNode) {
			err = z.create(conn, path, data, 0)
		}
		if errors.Is(err, zk.ErrNodeExists) { // somebody was quicker.
			err = z.set(conn, path, data)
		}
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("cannot write znode %q: %w", path, err)
	}
	return nil
}

// Swap writes a znode that is still as Get gave it, and reports whether it was. After an
// error it may have been written all the same.
func (s *Store) Swap(ctx context.Context, path string, data []byte, version int32) (swapped bool, err error) {
	_, err = ask(ctx, s, func(z *Session, conn *zk.Conn) (struct{}, error) {
		if version == Missing {
			return struct{}{}, z.create(conn, path, data, 0)
		}
		_, err := conn.Set(z.absolute(path), data, version)
		return struct{}{}, err
	})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, zk.ErrNodeExists), errors.Is(err, zk.ErrBadVersion), errors.Is(err, zk.ErrNoNode) && version != Missing:
		return false, nil
	}
	return false, fmt.Errorf("cannot write znode %q: %w", path, err)
}

// Delete removes a znode. One that does not exist is no error.
func (s *Store) Delete(ctx context.Context, path string) error {
	_, err := ask(ctx, s, func(z *Session, conn *zk.Conn) (struct{}, error) {
		return struct{}{}, conn.Delete(z.absolute(path), -1)
	})
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return fmt.Errorf("cannot delete znode %q: %w", path, err)
	}
	return nil
}

// Lock is an ephemeral znode, which one of all that want it has. It is lost with the
// session.
type Lock struct {
	store *Store
	path  string
	mark  []byte // its content, when it is ours
}

// Lock makes a lock of a path. It takes nothing.
func (s *Store) Lock(path string) *Lock { return &Lock{s, path, []byte(rand.Text())} }

// Try takes the lock, and reports whether it has: also when an earlier Try had taken it
// and was not told, or Release could not give it back.
func (l *Lock) Try(ctx context.Context) (bool, error) {
	held, err := ask(ctx, l.store, func(z *Session, conn *zk.Conn) (bool, error) {
		err := z.create(conn, l.path, l.mark, zk.FlagEphemeral)
		if !errors.Is(err, zk.ErrNodeExists) {
			return err == nil, err
		}
		_, held, err := l.held(z, conn)
		return held, err
	})
	if err != nil {
		return false, fmt.Errorf("cannot take lock %q: %w", l.path, err)
	}
	return held, nil
}

// Release gives the lock back. One that is not ours stays.
func (l *Lock) Release(ctx context.Context) error {
	_, err := ask(ctx, l.store, func(z *Session, conn *zk.Conn) (struct{}, error) {
		version, held, err := l.held(z, conn)
		if err != nil || !held {
			return struct{}{}, err
		}
		return struct{}{}, conn.Delete(z.absolute(l.path), version)
	})
	if err != nil {
		return fmt.Errorf("cannot release lock %q: %w", l.path, err)
	}
	return nil
}

// held reports whether the znode is this lock's own and will last as long as the session.
func (l *Lock) held(z *Session, conn *zk.Conn) (version int32, held bool, err error) {
	data, stat, err := conn.Get(z.absolute(l.path))
	if errors.Is(err, zk.ErrNoNode) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return stat.Version, string(data) == string(l.mark) && stat.EphemeralOwner == conn.SessionID(), nil
}

// ask carries out calls of the client library, and gives their result. They are made
// once the session is authenticated.
func ask[T any](ctx context.Context, s *Store, do func(*Session, *zk.Conn) (T, error)) (result T, err error) {
	z := s.session()
	if z == nil || !z.State().Connected {
		return result, errNotConnected
	}
	out := make(chan T, 1) // a call that is given up may still answer.
	err = z.call(ctx, func(conn *zk.Conn) error {
		r, err := do(z, conn)
		out <- r
		return err
	})
	if err != nil {
		return result, err
	}
	return <-out, nil
}

// acl is that of what a store makes.
func (s *Session) acl() []zk.ACL {
	if s.cfg.Auth == nil {
		return zk.WorldACL(zk.PermAll)
	}
	return zk.AuthACL(zk.PermAll)
}

// private fails for a znode that everybody may use, on a session that can tell itself
// from everybody.
func (s *Session) private(conn *zk.Conn, path string) error {
	if s.cfg.Auth == nil {
		return nil
	}
	list, _, err := conn.GetACL(s.absolute(path))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(a zk.ACL) bool { return a.Scheme == "world" }) {
		return errors.New("it is open to everybody (its ACL has world:anyone); delete it, and what it held is made anew")
	}
	return nil
}

func (s *Session) set(conn *zk.Conn, path string, data []byte) error {
	if err := s.private(conn, path); err != nil {
		return err
	}
	_, err := conn.Set(s.absolute(path), data, -1)
	return err
}

// create makes a znode, and its parents where they are missing.
func (s *Session) create(conn *zk.Conn, path string, data []byte, flags int32) error {
	_, err := conn.Create(s.absolute(path), data, flags, s.acl())
	parent := path[:strings.LastIndexByte(path, '/')]
	if !errors.Is(err, zk.ErrNoNode) || parent == "" {
		return err
	}
	if err := s.create(conn, parent, nil, 0); err != nil && !errors.Is(err, zk.ErrNodeExists) {
		return err
	}
	_, err = conn.Create(s.absolute(path), data, flags, s.acl())
	return err
}
