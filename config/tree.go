package config

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on a file, far above any that a person or a template writes. They keep a
// file that was made to do so from taking all memory: the parser recurses, and a
// stack that overflows cannot be recovered from.
const (
	maxFileSize = 16 << 20
	maxNesting  = 100  // levels of [ and {
	maxColumn   = 400  // of a line's first word, and of nested "- - -"
	maxMarks    = 1000 // anchors and tags
)

// kind is what a YAML node is, before it is known what it should be.
type kind uint8

const (
	kindNull kind = iota
	kindText
	kindInt
	kindFloat
	kindBool
	kindList
	kindMap
	kindBroken // reported already
)

// position is a line and a column, both from 1.
type position struct{ line, column int }

// node is a YAML value with aliases and merge keys resolved. An anchored node is
// shared by its aliases, so that the tree is never larger than the file.
type node struct {
	kind   kind
	at     position
	text   string // a scalar, as written, without quotes
	quoted bool
	items  []*node // of a list
	pairs  []pair  // of a map, in the file's order, merged ones last
}

type pair struct {
	key   string
	at    position
	value *node
}

// fault is an error with the place in the text where it stands and, where it is
// known, the path of the key.
type fault struct {
	at   position
	path string
	err  error
}

// parse reads one YAML document. It gives as many faults as it finds; with any, the
// tree may be incomplete and may be nil.
//
// The text is taken apart by goccy/go-yaml: of the two kept YAML libraries it is the
// one whose syntax errors carry the exact line and column.
func parse(text []byte) (root *node, faults []fault) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // the byte order mark of some editors.
	if f := checkText(text); f != nil {
		return nil, []fault{*f}
	}
	// A file from a half-written deployment must never end a process that serves:
	// the parser has had panics on odd input.
	defer func() {
		if r := recover(); r != nil {
			root, faults = nil, []fault{{at: position{1, 1}, err: fmt.Errorf("cannot parse YAML: %v", r)}}
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if f := checkNesting(tokens); f != nil {
		return nil, []fault{*f}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, []fault{syntaxFault(text, err)}
	}
	t := &tree{anchors: map[string]*node{}}
	root = t.document(file)
	return root, t.faults
}

// syntaxFault takes the place out of the parser's error.
func syntaxFault(text []byte, err error) fault {
	var located yaml.Error
	if !errors.As(err, &located) {
		return fault{at: position{1, 1}, err: fmt.Errorf("cannot parse YAML: %w", err)}
	}
	f := fault{at: position{1, 1}, err: fmt.Errorf("cannot parse YAML: %s", located.GetMessage())}
	if tk := located.GetToken(); tk != nil && tk.Position != nil {
		f.at = position{tk.Position.Line, tk.Position.Column}
	}
	if tab, found := indentTab(text, f.at.line); found {
		f = fault{at: tab, err: errors.New("got a tab in the indentation; want spaces")}
	}
	return f
}

// indentTab looks for a tab in the white space that begins a line: the usual cause of
// an error whose own words do not tell.
func indentTab(text []byte, line int) (position, bool) {
	at := position{1, 1}
	indent := true
	for _, c := range text {
		switch {
		case c == '\n':
			at, indent = position{at.line + 1, 0}, true
		case at.line == line && indent && c == '\t':
			return at, true
		case c != ' ':
			indent = false
		}
		at.column++
	}
	return at, false
}

// checkText refuses what is no text: YAML is UTF-8 without control characters.
func checkText(text []byte) *fault {
	if len(text) > maxFileSize {
		return &fault{at: position{1, 1}, err: fmt.Errorf("got %d bytes; want at most %d", len(text), maxFileSize)}
	}
	at := position{1, 1}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return &fault{at: at, err: fmt.Errorf("got byte 0x%02x, which is not UTF-8; want UTF-8 text", text[i])}
		case r == '\n':
			at = position{at.line + 1, 0}
		case r < ' ' && r != '\t' && r != '\r', r == 0x7f:
			return &fault{at: at, err: fmt.Errorf("got control character 0x%02x; want text", r)}
		}
		at.column++
		i += size
	}
	return nil
}

func checkNesting(tokens token.Tokens) *fault {
	depth, marks, line := 0, 0, 0
	for _, tk := range tokens {
		first := tk.Position.Line != line
		line = tk.Position.Line
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.AnchorType, token.TagType:
			marks++
		case token.SequenceEntryType, token.MappingKeyType:
			first = true
		}
		at := position{line, tk.Position.Column}
		switch {
		case depth > maxNesting, first && at.column > maxColumn:
			return &fault{at: at, err: errors.New("cannot parse YAML: nested too deeply")}
		case marks > maxMarks:
			return &fault{at: at, err: fmt.Errorf("cannot parse YAML: got more than %d anchors and tags", maxMarks)}
		}
	}
	return nil
}

// tree turns the parser's nodes into ours.
type tree struct {
	anchors map[string]*node
	path    string // of the value being converted
	faults  []fault
}

func (t *tree) add(at position, format string, args ...any) {
	t.faults = append(t.faults, fault{at, t.path, fmt.Errorf(format, args...)})
}

// document gives the root of the only document.
func (t *tree) document(file *ast.File) *node {
	var root *node
	for i, doc := range file.Docs {
		at := position{1, 1}
		switch {
		case doc.Start != nil:
			at = place(doc.Start)
		case doc.Body != nil:
			at = place(doc.Body.GetToken())
		}
		switch {
		case doc.Body != nil && doc.Body.Type() == ast.DirectiveType:
			t.add(place(doc.Body.GetToken()), "got a YAML directive; want none")
			return root
		case i > 0:
			t.add(at, "got a second YAML document; want one")
			return root
		case doc.Body != nil:
			root = t.node(doc.Body)
		}
	}
	if root == nil || root.kind == kindNull && root.text == "" {
		t.add(position{1, 1}, "got an empty file; want at least a listener")
		return nil
	}
	return root
}

// under converts a value that stands at a deeper path.
func (t *tree) under(path string, from ast.Node) *node {
	outer := t.path
	t.path = path
	defer func() { t.path = outer }()
	return t.node(from)
}

func place(tk *token.Token) position {
	if tk == nil || tk.Position == nil {
		return position{1, 1}
	}
	return position{tk.Position.Line, tk.Position.Column}
}
