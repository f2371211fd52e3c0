package zookeeper

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"
)

// firedBy lists the watches that an event of the server uses up, as the client
// library counts them.
var firedBy = map[zk.EventType][]watchKind{
	zk.EventNodeCreated:         {watchExist},
	zk.EventNodeDataChanged:     {watchExist, watchData},
	zk.EventNodeChildrenChanged: {watchChild},
	zk.EventNodeDeleted:         {watchExist, watchData, watchChild},
}

// onEvent is the library's callback. It runs in the library's loops, before anything
// that the event precedes, so it must not block and nothing can overtake it. (The
// library's event channel holds six and drops the rest.)
func (s *Session) onEvent(event zk.Event) {
	if event.Type == zk.EventSession {
		s.onPhase(event.State)
		return
	}
	// An expired session also reports each watch that it had. Nothing is done about
	// those: up forgets all of them at once.
	if kinds := firedBy[event.Type]; kinds != nil {
		s.counts.events.Add(1)
		s.watches.fire(event.Path, s.relative(event.Path), kinds)
	}
}

// onPhase follows the library's state. Whatever is no session is down at once; up
// takes a moment more, see follow.
func (s *Session) onPhase(phase zk.State) {
	s.mu.Lock()
	s.lib.phase = phase
	switch phase {
	case zk.StateHasSession:
		s.lib.greets++
	case zk.StateExpired:
		s.state.Expiries++
		s.lib.seenID = 0 // which makes up forget the watches
		s.logger.Warn("zookeeper session expired", zap.Uint64("expiries", s.state.Expiries))
	}
	if phase == zk.StateDisconnected && s.lib.socket != nil {
		if err := s.lib.socket.failed(); err != nil {
			s.state.LastError = fmt.Sprintf("lost the connection to %s: %v", s.state.Server, err)
		}
	}
	if phase != zk.StateHasSession && s.state.Connected {
		s.state.Connected = false
		s.state.Since = time.Now()
		s.logger.Warn("zookeeper connection lost; serving what is known",
			zap.String("server", s.state.Server), zap.String("error", s.state.LastError))
		s.tell(message{link: linkDown})
	}
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// greeted says whether the library has a session that the sources do not use yet.
func (s *Session) greeted() (greets uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lib.greets, s.lib.phase == zk.StateHasSession && !s.state.Connected
}

// up opens the session to the sources, unless the connection that follow saw is gone.
func (s *Session) up(id int64, greets uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lib.phase != zk.StateHasSession || s.lib.greets != greets {
		return
	}
	link := linkBack
	if s.lib.seenID != id {
		// Some servers hand out a new session on reconnect without a word of the
		// old one's expiry, so the identity decides and not the event.
		link = linkRenewed
		s.watches.reset()
	}
	s.lib.seenID = id
	s.state.Connected = true
	s.state.Since = time.Now()
	s.state.SessionID = id
	s.state.Reconnects = greets - 1
	s.state.LastError = ""
	s.logger.Info("zookeeper connected", zap.String("server", s.state.Server), zap.Bool("new_session", link == linkRenewed))
	s.tell(message{link: link})
}

// tell posts to every source. s.mu is held.
func (s *Session) tell(m message) {
	for box := range s.boxes {
		box.post(m)
	}
}

// join makes a mailbox. Its first message says that the session is up, if it is.
func (s *Session) join() *mailbox {
	box := newMailbox()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boxes[box] = struct{}{}
	if s.state.Connected {
		box.post(message{link: linkRenewed})
	}
	return box
}

// leave ends a mailbox.
func (s *Session) leave(box *mailbox) {
	s.mu.Lock()
	delete(s.boxes, box)
	s.mu.Unlock()
	s.watches.leave(box)
}

// absolute puts the chroot before a path.
func (s *Session) absolute(path string) string {
	if s.chroot != "" && path == "/" {
		return s.chroot
	}
	return s.chroot + path
}

// relative takes the chroot off a path.
func (s *Session) relative(path string) string {
	below := strings.TrimPrefix(path, s.chroot)
	if below == "" {
		return "/"
	}
	return below
}
