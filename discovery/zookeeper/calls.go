package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"
)

var (
	errNotConnected = errors.New("no zookeeper session")
	errNoAnswer     = errors.New("zookeeper gave no answer")
)

// call runs one library call. The library's calls take no context and wait for ever
// for an answer that is lost while pings are answered, so this waits for at most the
// session time-out and then drops the connection: that makes the library fail the
// call, gives the slot back and tries another member. An abandoned call runs on
// until then and whatever it does in the end is done in do.
func (s *Session) call(ctx context.Context, do func(*zk.Conn) error) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	conn, greets, usable := s.lib.conn, s.lib.greets, s.lib.phase == zk.StateHasSession
	if conn == nil || !usable {
		s.mu.Unlock()
		<-s.slots
		return errNotConnected
	}
	s.calls.Add(1) // under mu: Run waits for the calls only after conn is closed and phase has left the session
	s.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		defer s.calls.Done()
		defer func() { <-s.slots }()
		done <- do(conn)
	}()
	timer := time.NewTimer(s.cfg.SessionTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	s.counts.timeouts.Add(1)
	s.mu.Lock()
	same := s.lib.greets == greets
	s.mu.Unlock()
	err := fmt.Errorf("%w within %v", errNoAnswer, s.cfg.SessionTimeout)
	if same {
		s.dropConnection(err)
	}
	return err
}

// read carries out one read of a tree. The outcome is in the reply; a watch that the
// read arms posts to box.
func (s *Session) read(ctx context.Context, r read, box *mailbox) reply {
	out := make(chan reply, 1)
	err := s.call(ctx, func(conn *zk.Conn) error {
		answer, err := s.ask(conn, r, box)
		answer.read = r
		answer.outcome, answer.err = judge(answer.outcome, err)
		out <- answer
		return err
	})
	select {
	case answer := <-out:
		s.count(answer.outcome)
		return answer
	default: // the call did not finish, and must not be waited for
		s.count(unknown)
		return reply{read: r, outcome: unknown, err: err}
	}
}

func (s *Session) count(o outcome) {
	if o == found || o == missing {
		s.counts.reads.Add(1)
		return
	}
	s.counts.failures.Add(1)
}

// ask is the call itself. An existence check that finds nothing is no error to the
// library; the outcome tells.
func (s *Session) ask(conn *zk.Conn, r read, box *mailbox) (reply, error) {
	path := s.absolute(r.path)
	switch r.op {
	case opList:
		return s.list(conn, path, r, box)
	case opData:
		return s.data(conn, path, r, box)
	case opAwait:
		return s.await(conn, path, r, box)
	default:
		there, stat, err := conn.Exists(path)
		return existence(there, stat), err
	}
}

func (s *Session) list(conn *zk.Conn, path string, r read, box *mailbox) (reply, error) {
	key := watchKey{path, watchChild}
	arm, fired := s.watches.begin(key, box, r.rearm)
	if !arm {
		names, stat, err := conn.Children(path)
		return reply{names: names, stat: statOf(stat)}, err
	}
	names, stat, _, err := conn.ChildrenW(path)
	s.watches.end(key, box, fired, err == nil)
	return reply{names: names, stat: statOf(stat)}, err
}

func (s *Session) data(conn *zk.Conn, path string, r read, box *mailbox) (reply, error) {
	key := watchKey{path, watchData}
	arm, fired := s.watches.begin(key, box, r.rearm)
	if !arm {
		data, stat, err := conn.Get(path)
		return reply{data: data, stat: statOf(stat)}, err
	}
	data, stat, _, err := conn.GetW(path)
	s.watches.end(key, box, fired, err == nil)
	return reply{data: data, stat: statOf(stat)}, err
}

func (s *Session) await(conn *zk.Conn, path string, r read, box *mailbox) (reply, error) {
	key := watchKey{path, watchExist}
	arm, fired := s.watches.begin(key, box, r.rearm)
	if !arm {
		there, stat, err := conn.Exists(path)
		return existence(there, stat), err
	}
	// On a znode that exists this arms its data watch instead, which nobody waits
	// for: the caller goes on to list the znode.
	there, stat, _, err := conn.ExistsW(path)
	s.watches.end(key, box, fired, err == nil && !there)
	return existence(there, stat), err
}

func existence(there bool, stat *zk.Stat) reply {
	if !there {
		return reply{outcome: missing}
	}
	return reply{stat: statOf(stat)}
}

func statOf(stat *zk.Stat) stamp {
	if stat == nil {
		return stamp{}
	}
	return stamp{created: stat.Czxid, modified: stat.Mzxid, children: stat.Pzxid}
}

// judge sorts an answer. NoNode alone says that there is nothing; a refusal concerns
// one znode; every other failure says nothing about any.
func judge(o outcome, err error) (outcome, error) {
	switch {
	case err == nil:
		return o, nil
	case errors.Is(err, zk.ErrNoNode):
		return missing, nil
	case errors.Is(err, zk.ErrNoAuth), errors.Is(err, zk.ErrInvalidPath):
		return denied, err
	default:
		return unknown, err
	}
}
