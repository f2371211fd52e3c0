package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// outline writes a tree in one line, so that two parsers can be compared.
func outline(n *node) string {
	switch n.kind {
	case kindList:
		items := make([]string, len(n.items))
		for i, item := range n.items {
			items[i] = outline(item)
		}
		return "[" + strings.Join(items, " ") + "]"
	case kindMap:
		pairs := make([]string, len(n.pairs))
		for i, p := range n.pairs {
			pairs[i] = fmt.Sprintf("%q:%s", p.key, outline(p.value))
		}
		return "{" + strings.Join(pairs, " ") + "}"
	case kindNull:
		return "null"
	case kindText:
		return fmt.Sprintf("%q", n.text)
	default:
		return n.text
	}
}

// outlineTwin does the same with another parser's tree, without anchors.
func outlineTwin(n *yaml.Node) string {
	switch n.Kind {
	case yaml.DocumentNode:
		return outlineTwin(n.Content[0])
	case yaml.SequenceNode:
		items := make([]string, len(n.Content))
		for i, item := range n.Content {
			items[i] = outlineTwin(item)
		}
		return "[" + strings.Join(items, " ") + "]"
	case yaml.MappingNode:
		var pairs []string
		for i := 0; i < len(n.Content); i += 2 {
			pairs = append(pairs, fmt.Sprintf("%q:%s", n.Content[i].Value, outlineTwin(n.Content[i+1])))
		}
		return "{" + strings.Join(pairs, " ") + "}"
	case yaml.AliasNode:
		return outlineTwin(n.Alias)
	}
	switch n.ShortTag() {
	case "!!null":
		return "null"
	case "!!str", "!!timestamp":
		return fmt.Sprintf("%q", n.Value)
	default:
		return n.Value
	}
}

// parseTwin reads one document with the other parser.
func parseTwin(text []byte) (*yaml.Node, error) {
	var n yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&n); err != nil {
		return nil, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	return &n, nil
}

// TestParseTwin compares the parser with another one: on every file of testdata, and
// on documents that are put together at random from what configurations are made of.
func TestParseTwin(t *testing.T) {
	compared := 0
	compare := func(name string, text []byte) {
		twin, err := parseTwin(text)
		root, found := parse(text)
		if len(found) > 0 || err != nil {
			return
		}
		compared++
		if got, want := outline(root), outlineTwin(twin); got != want {
			t.Errorf("%s: unlike trees for\n%s\ngot  %s\ntwin %s", name, text, got, want)
		}
	}
	for _, path := range append(glob(t, "testdata/*.yaml"), glob(t, "../examples/*.yaml")...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "<<") || strings.Contains(string(text), "!") || strings.Contains(path, "overflow") {
			continue // merge keys and tags are resolved here and kept there; huge numbers are text here.
		}
		compare(path, text)
	}
	for seed := range uint64(3000) {
		g := generator{rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // test data.
		compare(fmt.Sprint("seed ", seed), []byte(g.block(0, 0)))
	}
	if compared < 2500 {
		t.Errorf("compared %d documents; want nearly all of 3000", compared)
	}
}

// generator writes random YAML.
type generator struct{ *rand.Rand }

func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g generator) key() string {
	return fmt.Sprintf(g.pick("name%d", "address%d", "path_prefix%d", `"quoted%d"`, "'single%d'", "a-b%d", "x.y%d"), g.IntN(1000))
}

func (g generator) scalar() string {
	return g.pick("web", "5s", "32KiB", "12", "0", "-3", "1.5", "true", "false", "null", "~", "off", "yes",
		`":8080"`, `"a # b"`, `'it''s'`, `"tab\tnew\nline"`, `"^/u/[0-9]+$"`, "/users/", "a b c", "127.0.0.1:2181",
		"http://x:80/y", `"[::1]:80"`, "x.example.com", `""`, "''", `"\u00e9"`, "é", "a#b", "1.2.3.4", "1eb", "2020-01-01")
}

func (g generator) flow(depth int) string {
	if depth > 2 || g.IntN(3) == 0 {
		s := g.scalar()
		if strings.ContainsAny(s, ":") && !strings.HasPrefix(s, `"`) {
			return `"` + s + `"`
		}
		return s
	}
	var parts []string
	if g.IntN(2) == 0 {
		for range g.IntN(4) {
			parts = append(parts, g.flow(depth+1))
		}
		return "[ " + strings.Join(parts, ", ") + " ]"
	}
	for range g.IntN(4) {
		parts = append(parts, g.key()+": "+g.flow(depth+1))
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

func (g generator) comment() string { return g.pick("", "", "", " # why", "\n\n", "\n  # alone\n") }

// block writes a mapping at an indentation.
func (g generator) block(indent, depth int) string {
	var out strings.Builder
	pad := strings.Repeat(" ", indent)
	for range 1 + g.IntN(4) {
		out.WriteString(pad + g.key() + ":")
		switch n := g.IntN(7); {
		case n == 0 && depth < 3:
			out.WriteString(g.comment() + "\n" + g.block(indent+2, depth+1))
		case n == 1 && depth < 3:
			out.WriteString(g.comment() + "\n")
			for range 1 + g.IntN(3) {
				item := g.block(indent+4, depth+1)
				out.WriteString(pad + "  - " + item[indent+4:])
			}
		case n == 2:
			out.WriteString(" |\n" + pad + "  literal\n" + pad + "    text\n")
		case n == 3:
			out.WriteString(" >-\n" + pad + "  folded\n" + pad + "  text\n\n")
		case n == 4:
			out.WriteString(" " + g.flow(0) + g.pick("", " # why") + "\n")
		default:
			out.WriteString(" " + g.scalar() + g.pick("", " # why", "\n", "\n# alone") + "\n")
		}
	}
	return out.String()
}
