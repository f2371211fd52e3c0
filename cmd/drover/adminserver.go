package main

import (
	"context"
	"net"
	"time"

	"drover/admin"

	"go.uber.org/zap"
)

// adminServer is the running operator's interface.
type adminServer struct {
	cfg    admin.Config
	socket *socket
	ln     net.Listener
	server *admin.Server
	task   *task
}

func newAdminServer(e *engine, cfg admin.Config) (*adminServer, error) {
	var s *socket
	var err error
	if e.admin != nil && e.admin.cfg.Address == cfg.Address {
		s, err = e.admin.socket.clone() // other settings on the same address
	} else {
		s, err = bind(cfg.Address)
	}
	if err != nil {
		return nil, err
	}
	ln, err := s.share()
	if err != nil {
		return nil, err
	}
	server := admin.New(cfg, admin.State{Metrics: e.metrics.Handler(), Ready: e.ready, Status: e.status}, e.logger)
	return &adminServer{cfg: cfg, socket: s, ln: ln, server: server}, nil
}

func (a *adminServer) start(logger *zap.Logger) {
	a.task = startTask("admin interface", logger, func(context.Context) error { return a.server.Serve(a.ln) })
}

// close gives the address back before it was served.
func (a *adminServer) close() {
	_ = a.ln.Close()        // never served.
	_ = a.socket.ln.Close() // never served.
}

// adminDrain bounds the wait for a running scrape.
const adminDrain = 2 * time.Second

// stop ends the interface; a nil one is none.
func (a *adminServer) stop() {
	if a == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminDrain)
	defer cancel()
	_ = a.server.Shutdown(ctx) // what did not finish was closed.
	_ = a.socket.ln.Close()    // the address is free again.
	a.task.stop()
}

// planAdmin binds the operator's interface, or keeps the running one.
func (e *engine) planAdmin(cfg admin.Config) (*adminServer, error) {
	switch {
	case e.admin != nil && e.admin.cfg == cfg:
		return e.admin, nil
	case cfg.Address == "":
		return nil, nil //nolint:nilnil // none is wanted.
	}
	return newAdminServer(e, cfg)
}
