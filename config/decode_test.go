package config

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"drover/units"
)

// sample has a field of each kind that a part may use.
type sample struct {
	Text    string        `yaml:"text"`
	Flag    bool          `yaml:"flag"`
	Count   int           `yaml:"count"`
	Share   float64       `yaml:"share"`
	Wait    time.Duration `yaml:"wait"`
	Size    units.Size    `yaml:"size"`
	Words   []string      `yaml:"words"`
	Inner   sampleInner   `yaml:"inner"`
	Pointer *sampleInner  `yaml:"pointer"`
	List    []sampleInner `yaml:"list"`
	Inlined sampleInline  `yaml:",inline"`
	Ignored string        `yaml:"-"`
}

type sampleInner struct {
	A int `yaml:"a"`
	B int `yaml:"b"`
}

type sampleInline struct {
	Extra string `yaml:"extra"`
}

func (s *sample) SetDefaults() {
	s.Count, s.Words = 7, []string{"default"}
	s.Inner.B = 20 // the outer block's word counts more than the inner one's.
}
func (s *sampleInner) SetDefaults() { s.A, s.B = 1, 2 }

func decodeSample(text string) (sample, error) {
	got := WithDefaults[sample]()
	var found faults
	decode("x.yaml", []byte(text), &got, &found)
	return got, found.err()
}

func TestDecode(t *testing.T) {
	f := func(text string, change func(*sample)) {
		t.Helper()
		got, err := decodeSample(text)
		if err != nil {
			t.Errorf("%q: got error %v; want none", text, err)
			return
		}
		want := sample{Count: 7, Words: []string{"default"}, Inner: sampleInner{1, 20}}
		change(&want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v; want %+v", text, got, want)
		}
	}
	f("text: a", func(s *sample) { s.Text = "a" })
	f("text: 'a'\nflag: true\ncount: 0\nshare: 1\n", func(s *sample) { s.Text, s.Flag, s.Count, s.Share = "a", true, 0, 1 })
	f("text: off", func(s *sample) { s.Text = "off" })
	f("text: Case_Kept", func(s *sample) { s.Text = "Case_Kept" })
	f("text: !!str 5", func(s *sample) { s.Text = "5" })
	f("text: |\n  two\n  lines\n", func(s *sample) { s.Text = "two\nlines\n" })
	f("text: >-\n  two\n  lines\n", func(s *sample) { s.Text = "two lines" })
	f(`text: "\u00e9\t\x41"`, func(s *sample) { s.Text = "é\tA" })
	f("text: 'it''s'", func(s *sample) { s.Text = "it's" })
	f("text: 2020-01-01", func(s *sample) { s.Text = "2020-01-01" })
	f("\xef\xbb\xbftext: a", func(s *sample) { s.Text = "a" })
	f("text: a\r\ncount: 3\r\n", func(s *sample) { s.Text, s.Count = "a", 3 })
	f("---\ntext: a\n...\n", func(s *sample) { s.Text = "a" })
	f("share: 0.5\nwait: 1m30s\nsize: 4MiB", func(s *sample) { s.Share, s.Wait, s.Size = 0.5, 90*time.Second, 4*units.MiB })
	f("wait: 0\nsize: 0", func(*sample) {})
	f("wait: '5s'", func(s *sample) { s.Wait = 5 * time.Second })
	f("words: [ a, 503 ]", func(s *sample) { s.Words = []string{"a", "503"} })
	f("words: []", func(s *sample) { s.Words = []string{} })
	f("inner: { a: 9 }", func(s *sample) { s.Inner.A = 9 })
	f("pointer: {}", func(s *sample) { s.Pointer = &sampleInner{1, 2} })
	f("list: [ {}, { b: 5 } ]", func(s *sample) { s.List = []sampleInner{{1, 2}, {1, 5}} })
	f("extra: x", func(s *sample) { s.Inlined.Extra = "x" })
	f("pointer: &p { a: 3 }\nlist: [ *p, *p ]", func(s *sample) {
		s.Pointer, s.List = &sampleInner{3, 2}, []sampleInner{{3, 2}, {3, 2}}
	})
	f("pointer: &p { a: 3, b: 4 }\nlist: [ { <<: *p, b: 5 }, { b: 6, <<: [ *p ] } ]", func(s *sample) {
		s.Pointer, s.List = &sampleInner{3, 4}, []sampleInner{{3, 5}, {3, 6}}
	})
	f("pointer: &p\n  a: 3\nlist:\n  - <<: *p\n    b: 5\n  - *p\n", func(s *sample) {
		s.Pointer, s.List = &sampleInner{3, 2}, []sampleInner{{3, 5}, {3, 2}}
	})
	f("text: &t hello\nwords: [ *t ]", func(s *sample) { s.Text, s.Words = "hello", []string{"hello"} })
	f("? text\n: a\n", func(s *sample) { s.Text = "a" })
	f("{ text: a, count: 3 }", func(s *sample) { s.Text, s.Count = "a", 3 })
	f("list:\n- a: 1\n  b: 3\n-\n  a: 4\n", func(s *sample) { s.List = []sampleInner{{1, 3}, {4, 2}} })
}

func TestDecodeFaults(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := decodeSample(text)
		if err == nil || err.Error() != want {
			t.Errorf("%q: got error\n%v\nwant\n%s", text, err, want)
		}
	}
	f("flag: 1", "x.yaml:1:7: flag: got 1; want true or false")
	f("flag: True", "x.yaml:1:7: flag: got True; want true or false")
	f("count: 0x10", "x.yaml:1:8: count: got 0x10; want a whole number")
	f("count: 1_000", "x.yaml:1:8: count: got 1_000; want a whole number")
	f("count: 1e3", `x.yaml:1:8: count: got "1e3"; want a whole number`)
	f("share: .inf", "x.yaml:1:8: share: got .inf; want a number")
	f("text: true", `x.yaml:1:7: text: got true, which is no text in YAML; want it in quotes: "true"`)
	f("words: [ 1.5 ]", `x.yaml:1:10: words[0]: got 1.5, which is no text in YAML; want it in quotes: "1.5"`)
	f("wait: 5", "x.yaml:1:7: wait: got 5; want a duration with a unit such as 5s")
	f("wait: 5 s", `x.yaml:1:7: wait: got "5 s"; want a duration with a unit such as 5s`)
	f("wait: 1d", `x.yaml:1:7: wait: got "1d"; want a duration with a unit such as 5s`)
	f("inner:", "x.yaml:1:1: inner: got null; want a mapping, such as {} for the defaults")
	f("Text: a", `x.yaml:1:1: Text: got an unknown key; want "text"`)
	f("list: [ { a: 1, c: 2 } ]", `x.yaml:1:17: list[0].c: got an unknown key; want "a"`)
	f("Ignored: a", `x.yaml:1:1: Ignored: got an unknown key; want one of text, flag, count, share, wait, size, words, inner, pointer, list, extra`)
	f("text: a\nflag: 3\ncount: x", "x.yaml:2:7: flag: got 3; want true or false\nx.yaml:3:8: count: got \"x\"; want a whole number")
	f("text: 5\n", `x.yaml:1:7: text: got 5, which is no text in YAML; want it in quotes: "5"`)
	long := strings.Repeat("é", 100)
	f("wait: "+long, `x.yaml:1:7: wait: got "`+long[:80]+`…"; want a duration with a unit such as 5s`)
}

// TestDecodeBounds gives the decoder files that were made to take all memory or to
// overflow the stack. One that is not bounded ends by the time-out of the whole run, for
// how long a bounded one takes depends on what else the machine does.
func TestDecodeBounds(t *testing.T) {
	f := func(name, text, want string) {
		t.Helper()
		_, err := decodeSample(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %.200v; want one with %q", name, err, want)
		}
	}
	f("brackets", strings.Repeat("[", 100_000), "nested too deeply")
	f("braces", strings.Repeat("{a: ", 100_000), "nested too deeply")
	f("dashes", strings.Repeat("- ", 100_000), "nested too deeply")
	f("questions", strings.Repeat("? ", 100_000), "nested too deeply")
	var steps strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&steps, "%sa:\n", strings.Repeat(" ", i))
	}
	f("steps", steps.String(), "nested too deeply")
	f("anchors", "a: "+strings.Repeat("&a ", 100_000), "anchors and tags")
	f("tags", "a: "+strings.Repeat("!!str ", 100_000), "anchors and tags")
	f("too large", strings.Repeat("#", maxFileSize+1), "bytes; want at most")

	// Nine lines that would come to a billion values.
	laughs := "text: &a [ lol, lol, lol, lol, lol, lol, lol, lol, lol, lol ]\n"
	for c := 'b'; c <= 'i'; c++ {
		laughs += fmt.Sprintf("x%c: &%c [ *%c%s ]\n", c, c, c-1, strings.Repeat(fmt.Sprintf(", *%c", c-1), 9))
	}
	f("laughs", laughs, "got a list; want text")

	// Aliases that multiply where the schema allows lists of lists of blocks.
	var bomb strings.Builder
	bomb.WriteString("list: &l [ &b { a: 1, b: 2 }" + strings.Repeat(", *b", 340_000) + " ]\n")
	f("aliases", bomb.String(), "got more than 1000000 values")
}

// TestDurations reads durations as the reference and the Go notation spell them, and
// refuses what is none.
func TestDurations(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	read := func(text string) (d time.Duration, err error) {
		err = setText(text, reflect.ValueOf(&d).Elem())
		return d, err
	}
	for range 5000 {
		want := time.Duration(r.Int64() >> r.IntN(63))
		if r.IntN(2) == 0 {
			want = want.Truncate(time.Second)
		}
		for _, text := range []string{want.String(), shortDuration(want)} {
			if got, err := read(text); err != nil || got != want {
				t.Fatalf("%d is spelled %q, which reads as %d, %v", want, text, got, err)
			}
		}
	}
	for _, text := range []string{"", " ", "5", "-1s", "1d", "1w", "5 s", " 5s", "5s ", "s", "1m30", "1S", "1e3s", "NaNs", "0x1s", "9223372036854775808ns", "3000000h"} {
		if got, err := read(text); err == nil || !strings.Contains(err.Error(), "want a duration") {
			t.Errorf("%q reads as %v, %v; want an error that says what is wanted", text, got, err)
		}
	}
}
