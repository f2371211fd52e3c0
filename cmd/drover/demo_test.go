package main

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"drover/internal/zktest"
)

// TestDemo plays the demonstration, shortened: every act shows what drover did about
// it, and no request fails.
func TestDemo(t *testing.T) {
	playDemo(t, demoOptions{step: 2500 * time.Millisecond, rate: 100})
}

// TestDemoThroughZooKeeper does the same with a real registry.
func TestDemoThroughZooKeeper(t *testing.T) {
	playDemo(t, demoOptions{step: 2500 * time.Millisecond, rate: 100, zookeeper: zktest.Start(t).Addr()})
}

func playDemo(t *testing.T, o demoOptions) {
	t.Parallel()
	var out bytes.Buffer
	if err := runDemo(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	// What follows each act, up to the table at its end.
	acts := regexp.MustCompile(`(?m)^ *[0-9.]+s  (.*)$`).FindAllStringSubmatchIndex(out.String(), -1)
	if len(acts) != 6 {
		t.Fatalf("%d acts; want 6:\n%s", len(acts), out.String())
	}
	for i, want := range []string{"", "up after", "cted after" /* ejected or evicted */, "up after", "draining after", "gone after"} {
		end := out.Len()
		if i+1 < len(acts) {
			end = acts[i+1][0]
		}
		if act := out.String()[acts[i][0]:end]; !strings.Contains(act, want) {
			t.Errorf("act %d shows\n%s\nwant %q", i+1, act, want)
		}
		// A terminal has it all in one line, without which it would be cut.
		title, notes, _ := strings.Cut(out.String()[acts[i][0]:end], "\n")
		notes, _, _ = strings.Cut(notes, "  server  address")
		for note := range strings.Lines(notes) {
			title += " - " + strings.TrimSpace(note)
		}
		if len(title) > 80 {
			t.Errorf("act %d takes %d columns on a terminal; want at most 80: %s", i+1, len(title), title)
		}
	}
	if text := out.String(); !regexp.MustCompile(`\n[1-9][0-9]+ requests, 0 failed\n$`).MatchString(text) {
		t.Errorf("the demo ends with %q; want how many requests, and none failed", text[max(0, len(text)-80):])
	}
}

// TestDemoInterrupted: Ctrl-C ends it early, with the figures so far and in good order.
func TestDemoInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &cancelAt{text: "server D registers", cancel: cancel}
	if err := runDemo(ctx, demoOptions{step: time.Second, rate: 50}, out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if text := out.String(); strings.Contains(text, "turns sick") || !strings.Contains(text, " requests, 0 failed") {
		t.Errorf("shows\n%s\nwant the end after the second act, and the figures", text)
	}
}

// cancelAt cancels when a text is written.
type cancelAt struct {
	bytes.Buffer
	text   string
	cancel func()
}

func (c *cancelAt) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(c.text)) {
		c.cancel()
	}
	return c.Buffer.Write(p)
}

// TestDemoWithoutZooKeeper: an ensemble that is not there is told as such, and a
// Ctrl-C while waiting for it ends the wait, in good order.
func TestDemoWithoutZooKeeper(t *testing.T) {
	t.Parallel()
	nobody := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runDemo(ctx, demoOptions{step: time.Second, rate: 50, zookeeper: nobody}, &bytes.Buffer{}); err != nil {
		t.Errorf("interrupted: %v", err)
	}
	code, stdout, stderr := command(t, "demo", "--zookeeper", nobody)
	if want := "cannot connect to ZooKeeper at \"" + nobody + "\""; code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, want) {
		t.Errorf("got exit code %d, %q, %q; want 1, nothing, %q", code, stdout, stderr, want)
	}
}

// TestDemoOptions: what cannot be played is refused with what can.
func TestDemoOptions(t *testing.T) {
	for _, o := range []demoOptions{{step: time.Second}, {step: time.Second, rate: maxDemoRate + 1}, {step: time.Millisecond, rate: 1}} {
		if err := runDemo(t.Context(), o, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "want a rate from 1 to 2000 and a step of 100ms or more") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
