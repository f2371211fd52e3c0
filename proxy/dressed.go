package proxy

import (
	"bytes"
	"slices"

	"drover/exchange"
	"drover/proxy/compress"
)

// dress stands before the client of a route that changes whatever answer it gives,
// drover's own ones included. It is part of its request.
type dress struct {
	exchange.Client
	rq      *request
	encoder *compress.Encoder // nil for a body that goes as it is
	sent    int64             // encoded bytes
}

// dressed puts what changes answers between the rest of the chain and the client: CORS,
// compression and the request's name.
func (p *Proxy) dressed(next handler) handler {
	return func(rq *request) {
		if rq.compress == nil && (rq.guard == nil || rq.guard.cors == nil) && !rq.listener().RequestID.Answer {
			next(rq)
			return
		}
		client := rq.ex.Client
		rq.dress = dress{Client: client, rq: rq}
		rq.ex.Client = &rq.dress
		whole := false
		defer func() {
			rq.dress.end(whole)
			rq.ex.Client, rq.dress = client, dress{}
		}()
		next(rq)
		whole = !rq.ex.Result.Aborted
	}
}

// Start implements exchange.Client.
func (d *dress) Start(r *exchange.Response) error {
	ex := d.rq.ex
	if g := d.rq.guard; g != nil && g.cors != nil && ex.Result.Reason != exchange.ReasonPreflight {
		g.cors.Apply(&r.Header, &ex.Request)
	}
	if id := &d.rq.listener().RequestID; id.Answer {
		r.Header = slices.DeleteFunc(r.Header, func(f exchange.Field) bool { return bytes.EqualFold(f.Name, id.Header) })
		r.Header = append(r.Header, exchange.Field{Name: id.Header, Value: ex.RequestID})
	}
	if d.rq.compress != nil {
		d.encoder = d.rq.compress.Begin(r, &ex.Request, encoded{d})
	}
	return d.Client.Start(r)
}

// Write implements exchange.Client.
func (d *dress) Write(p []byte) (int, error) {
	if d.encoder == nil {
		return d.Client.Write(p)
	}
	return d.encoder.Write(p)
}

// Flush implements exchange.Client.
func (d *dress) Flush() error {
	if d.encoder != nil {
		if err := d.encoder.Flush(); err != nil {
			return err
		}
	}
	return d.Client.Flush()
}

// Broke implements exchange.Breaker.
func (d *dress) Broke() exchange.Reason {
	if b, ok := d.Client.(exchange.Breaker); ok {
		return b.Broke()
	}
	return exchange.ReasonClientGone
}

// end ends the encoded body, unless the answer was cut.
func (d *dress) end(whole bool) {
	if d.encoder == nil {
		return
	}
	if whole && d.encoder.Close() != nil {
		d.rq.gone()
	}
	d.encoder.Release()
	d.rq.ex.Result.Sent = d.sent
}

// encoded takes what the encoder writes to the client.
type encoded struct{ *dress }

func (e encoded) Write(p []byte) (int, error) {
	n, err := e.Client.Write(p)
	e.sent += int64(n)
	return n, err
}
