package proxy

import "drover/exchange"

// teller stands before the client for the attempts. What it tells of a server's interim
// answers follows the rules of its final one.
type teller struct {
	exchange.Client
	rq *request
}

// Inform implements exchange.Client.
func (t *teller) Inform(r *exchange.Response) error {
	rq := t.rq
	from := len(rq.scratch)
	told := *r
	told.Header = ResponseHeader(rq.reply[:0], r.Header, false, HeaderOptions{Via: rq.listener().Via, Scratch: &rq.scratch})
	rq.route.ResponseOps.ApplyInterim(&told.Header, rq.vars())
	rq.reply = told.Header
	err := t.Client.Inform(&told)
	rq.scratch = rq.scratch[:from]
	return err
}
