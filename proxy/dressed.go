package proxy

import "drover/exchange"

// dress stands before the client of a route that changes whatever answer it gives,
// drover's own ones included. It is part of its request.
type dress struct {
	exchange.Client
	rq *request
}

// dressed puts what changes answers between the rest of the chain and the client.
func (p *Proxy) dressed(next handler) handler {
	return func(rq *request) {
		if rq.guard == nil || rq.guard.cors == nil {
			next(rq)
			return
		}
		client := rq.ex.Client
		rq.dress = dress{client, rq}
		rq.ex.Client = &rq.dress
		defer func() { rq.ex.Client, rq.dress = client, dress{} }()
		next(rq)
	}
}

// Start implements exchange.Client.
func (d *dress) Start(r *exchange.Response) error {
	if cors := d.rq.guard.cors; cors != nil && d.rq.ex.Result.Reason != exchange.ReasonPreflight {
		cors.Apply(&r.Header, &d.rq.ex.Request)
	}
	return d.Client.Start(r)
}
