package front

import (
	"time"

	"drover/proxy/front/pace"
)

// startPace holds the body that is being read to min_body_rate.
func (w *wire) startPace() {
	w.mu.Lock()
	w.pace = pace.Start()
	w.mu.Unlock()
}

// keepPace counts a read that began at the given time.
func (w *wire) keepPace(began time.Time, n int) {
	w.mu.Lock()
	if w.pace.On() {
		w.pace.Count(time.Since(began), n)
	}
	w.mu.Unlock()
}
