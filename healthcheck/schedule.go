package healthcheck

import (
	"container/heap"
	"time"

	"drover/backend"
)

// target is one server as the Monitor knows it.
type target struct {
	// One goroutine: Run's.
	member *backend.Member
	due    time.Time
	index  int // in the schedule, -1 while its probe runs
	begun  time.Time

	// Written by Run's goroutine under the Monitor's mu, read by Status.
	streak    streak
	lastError string
	lastAt    time.Time
	took      time.Duration
}

// schedule orders targets by when they are due. A server costs an entry here and no
// goroutine, so that 10,000 of them cost little.
type schedule struct{ heap targetHeap }

func (s *schedule) add(t *target) { heap.Push(&s.heap, t) }

// remove takes out a target that may not be in, as while its probe runs.
func (s *schedule) remove(t *target) {
	if t.index >= 0 {
		heap.Remove(&s.heap, t.index)
	}
}

// next gives the target that is due first, nil when there is none.
func (s *schedule) next() *target {
	if len(s.heap) == 0 {
		return nil
	}
	return s.heap[0]
}

// targetHeap implements heap.Interface.
type targetHeap []*target

func (h targetHeap) Len() int           { return len(h) }
func (h targetHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h targetHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *targetHeap) Push(x any) {
	t := x.(*target) //nolint:forcetypeassert,errcheck // schedule pushes nothing else.
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *targetHeap) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.index = -1
	return t
}
