package proxy

import (
	"bytes"

	"drover/exchange"
)

// challengePath is where authorities ask (RFC 8555, section 8.3).
var challengePath = []byte("/.well-known/acme-challenge/")

// challenge gives the answer to an authority that looks whether a domain is ours, nil
// for every other request. It comes in clear text.
func (rq *request) challenge() []byte {
	ex := rq.ex
	if ex.Secure || rq.table.challenge == nil || !bytes.HasPrefix(ex.Request.Target, challengePath) {
		return nil
	}
	answer, ok := rq.table.challenge(string(bytes.ToLower(hostOnly(ex.Request.Host))), string(ex.Request.Target))
	if !ok {
		return nil // it may be for a server that has certificates of its own.
	}
	return answer
}

func (rq *request) answerChallenge() {
	ex := rq.ex
	ex.Result.Status, ex.Result.Reason = 200, exchange.ReasonFixed
	r := &exchange.Response{Status: 200, ContentLength: int64(len(rq.proof))}
	r.Header.Add("Content-Type", "application/octet-stream")
	r.Header.Add("Cache-Control", "no-store")
	rq.started = true
	rq.send(r, rq.proof)
}
