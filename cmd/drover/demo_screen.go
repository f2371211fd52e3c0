package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// demoScreen shows the demo: redrawn in place on a terminal, line by line elsewhere.
type demoScreen struct {
	out      io.Writer
	terminal *os.File // nil where nothing is redrawn
	start    time.Time
	events   []string
	drawn    int // lines of the last drawing
	last     map[string]int64
	lastAt   time.Time
	rates    map[string]float64
}

func newDemoScreen(out io.Writer) *demoScreen {
	now := time.Now()
	s := &demoScreen{out: out, start: now, last: map[string]int64{}, lastAt: now, rates: map[string]float64{}}
	if f, isFile := out.(*os.File); isFile && term.IsTerminal(int(f.Fd())) { //nolint:gosec // a descriptor fits.
		s.terminal = f
	}
	return s
}

// event notes what happens next.
func (s *demoScreen) event(text string) {
	line := fmt.Sprintf("%5.1fs  %s", time.Since(s.start).Seconds(), text)
	s.events = append(s.events, line)
	if s.terminal == nil {
		s.print("%s\n", line)
	}
}

// note adds to the last event what drover did about it.
func (s *demoScreen) note(text string) {
	if s.terminal == nil {
		s.print("        %s\n", text)
		return
	}
	s.events[len(s.events)-1] += " - " + text
}

// act shows where things stand at the end of an act, where draw does not.
func (s *demoScreen) act(rows []row) {
	s.measure(rows)
	if s.terminal == nil {
		s.print("%s", s.table(rows))
	}
}

// draw repaints a terminal.
func (s *demoScreen) draw(rows []row) {
	if s.terminal == nil {
		return
	}
	if time.Since(s.lastAt) >= rateOver {
		s.measure(rows)
	}
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", s.drawn)
	}
	text := "drover demo: four clients, one drover, these servers\n\n" + s.table(rows) + "\n" + strings.Join(s.events, "\n") + "\n"
	text = s.fit(text)
	b.WriteString(text)
	s.drawn = strings.Count(text, "\n")
	s.print("%s", b.String())
}

// fit cuts lines that would wrap: they could not be drawn over.
func (s *demoScreen) fit(text string) string {
	width, _, err := term.GetSize(int(s.terminal.Fd())) //nolint:gosec // a descriptor fits.
	if err != nil || width <= 0 {
		return text
	}
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if len(line) > width+1 {
			lines[i] = line[:width] + "\n"
		}
	}
	return strings.Join(lines, "")
}

// finish prints the last line.
func (s *demoScreen) finish(format string, args ...any) { s.print("\n"+format, args...) }

func (s *demoScreen) print(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, format, args...) // a closed terminal ends the demo by signal.
}

// measure turns counts into rates.
func (s *demoScreen) measure(rows []row) {
	now := time.Now()
	elapsed := now.Sub(s.lastAt).Seconds()
	for _, r := range rows {
		if !s.lastAt.IsZero() && elapsed > 0 {
			s.rates[r.name] = float64(r.requests-s.last[r.name]) / elapsed
		}
		s.last[r.name] = r.requests
	}
	s.lastAt = now
}

// rateOver is the time that a rate is measured over.
const rateOver = 500 * time.Millisecond

// barUnit is how many requests per second one character of a bar stands for.
const barUnit = 5

func (s *demoScreen) table(rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  server  address          state     weight  requests   req/s\n")
	for _, r := range rows {
		rate := s.rates[r.name]
		fmt.Fprintf(&b, "  %-6s  %-15s  %-8s  %6d  %8d  %6.0f  %s\n", r.name, r.address, r.state, r.weight,
			r.requests, rate, strings.Repeat("#", int(rate/barUnit)))
	}
	return b.String()
}
