package zookeeper

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into their files")

// A scenario is a file of commands, each followed by what the tree then wants,
// indented: reads, the next wake-up (from the start of the scenario) and the set.
//
//	link down|back|renewed    the session comes or goes
//	at 50ms                   time passes, up to so long after the start
//	touch PATH                a watch fires
//	names PATH PZXID NAME...  PATH holds these names; czxid is 1
//	data PATH CZXID MZXID TEXT
//	stamp PATH CZXID MZXID PZXID
//	missing PATH | denied PATH | unknown PATH
//
// A reply goes to the oldest read of its path that waits for one.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/tree/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want), strings.Contains(file, "dubbo"))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
			for i := range min(len(gotLines), len(wantLines)) {
				if gotLines[i] != wantLines[i] {
					t.Fatalf("%s:%d: got %q; want %q", file, i+1, gotLines[i], wantLines[i])
				}
			}
			if len(gotLines) != len(wantLines) {
				t.Fatalf("%s: got %d lines; want %d", file, len(gotLines), len(wantLines))
			}
		})
	}
}

type player struct {
	t     *testing.T
	out   strings.Builder
	tree  *tree
	start time.Time
	now   time.Time
	reads []read
}

func play(t *testing.T, script string, descend bool) string {
	p := &player{t: t, start: time.Unix(1e9, 0)}
	p.now = p.start
	p.tree = newTree("/svc", descend, testTiming, testCodec(func(format string, args ...any) {
		fmt.Fprintf(&p.out, "\t"+format+"\n", args...)
	}), half)
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		p.out.WriteString(line)
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			p.do(strings.Fields(line))
			p.print()
		}
	}
	return p.out.String()
}

func (p *player) do(words []string) {
	switch words[0] {
	case "link":
		link := map[string]linkChange{"down": linkDown, "back": linkBack, "renewed": linkRenewed}[words[1]]
		p.tree.linked(p.now, link)
	case "at":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			p.t.Fatal(err)
		}
		p.now = p.start.Add(d)
	case "touch":
		p.tree.touched(p.now, words[1])
	default:
		p.reply(words)
	}
}

func (p *player) reply(words []string) {
	var r reply
	for i := range p.reads {
		if p.reads[i].path == words[1] {
			r.read = p.reads[i]
			p.reads = append(p.reads[:i:i], p.reads[i+1:]...)
			break
		}
	}
	if r.path == "" {
		p.t.Fatalf("%v: no such read is under way", words)
	}
	numbers := make([]int64, 3)
	for i := range numbers {
		if i+2 < len(words) {
			numbers[i], _ = strconv.ParseInt(words[i+2], 10, 64) // text, in some
		}
	}
	switch words[0] {
	case "names":
		r.names, r.stat = words[3:], stamp{1, 1, numbers[0]}
	case "data":
		r.stat = stamp{numbers[0], numbers[1], numbers[0]}
		r.data = []byte(strings.Join(words[4:], " "))
	case "stamp":
		r.stat = stamp{numbers[0], numbers[1], numbers[2]}
	case "missing":
		r.outcome = missing
	case "denied":
		r.outcome, r.err = denied, errors.New("not allowed")
	case "unknown":
		r.outcome, r.err = unknown, errors.New("connection lost")
	default:
		p.t.Fatalf("unknown command %q", words[0])
	}
	p.tree.answered(p.now, r)
}

var opNames = [...]string{opList: "list", opAwait: "await", opData: "read", opCompare: "compare",
	opVerify: "verify", opVerifyChild: "verify child"}

func (p *player) print() {
	corrections := p.tree.stats.corrections
	reads, wake := p.tree.step(p.now)
	for _, r := range reads {
		forced := ""
		if r.rearm {
			forced = " and arm anew"
		}
		fmt.Fprintf(&p.out, "\t%s %s%s\n", opNames[r.op], r.path, forced)
	}
	p.reads = append(p.reads, reads...)
	if set, ok := p.tree.take(); ok {
		p.out.WriteString("\tset:")
		for _, s := range set {
			fmt.Fprintf(&p.out, " %s=%d", s.Host, s.Weight)
		}
		p.out.WriteString("\n")
	}
	if corrections > 0 {
		fmt.Fprintf(&p.out, "\tcorrections: %d\n", corrections)
	}
	if !wake.IsZero() {
		fmt.Fprintf(&p.out, "\twake at %v\n", wake.Sub(p.start))
	}
}
