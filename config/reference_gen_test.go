package config

import (
	"encoding"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

const referenceHead = `# drover's configuration: every key with its default.
#
# A key that is left out has the value shown here, except for the example values of
# keys without a default. Blocks behind a "#" without a space are absent by default;
# the values in them are the defaults once they are there. Durations (5s, 1m30s) and
# sizes (512B, 32KiB, 10MB) carry units.
#
# admin, log, access_log, metrics, drain_timeout and zookeeper can be overridden by
# flags (--log-level debug) and by the environment (DROVER_LOG_LEVEL=debug).
#
# The text is made from the code: go test ./config -run Reference -rewrite
`

// referenceGenerator writes reference.yaml.
type referenceGenerator struct {
	schema schema
	docs   docComments
	used   map[string]bool // examples
	out    strings.Builder
}

func newReferenceGenerator(t *testing.T) *referenceGenerator {
	t.Helper()
	return &referenceGenerator{
		schema: schema{},
		docs:   docComments{t, map[string]map[string]string{}},
		used:   map[string]bool{},
	}
}

func (g *referenceGenerator) generate() string {
	g.out.WriteString(referenceHead)
	g.block(WithDefaults[Config](), "", "", "\n")
	return g.out.String()
}

// block writes the keys of a struct. Lead is what begins each line: the indentation,
// and "#" within what is commented out.
func (g *referenceGenerator) block(block any, pattern, lead, gap string) {
	v := reflect.ValueOf(block)
	for _, f := range g.schema.fields(v.Type()) {
		at, value := join(pattern, f.key), v.FieldByIndex(f.index)
		g.out.WriteString(gap)
		if text := g.comment(f, v.Type(), at); text != "" {
			g.out.WriteString(lead + "# " + text + "\n")
		}
		switch typ := value.Type(); {
		case typ.Kind() == reflect.Pointer:
			inner := reflect.New(typ.Elem())
			g.schema.setDefaults(inner.Elem())
			g.nested(inner.Elem(), f.key, at, off(lead))
		case isBlock(typ):
			g.nested(value, f.key, at, lead)
		case typ.Kind() == reflect.Slice && isBlock(typ.Elem()):
			inner := reflect.New(typ.Elem())
			g.schema.setDefaults(inner.Elem())
			listLead := lead
			if !slices.Contains(referenceActive, at) {
				listLead = off(lead)
			}
			g.element(inner.Elem(), f.key, at+"[]", listLead)
		default:
			fmt.Fprintf(&g.out, "%s%s: %s\n", lead, f.key, g.value(value, at))
		}
	}
}

func (g *referenceGenerator) nested(v reflect.Value, key, pattern, lead string) {
	g.out.WriteString(lead + key + ":\n")
	g.block(v.Interface(), pattern, lead+"  ", "")
}

// element writes a list of one element, its first line behind the dash.
func (g *referenceGenerator) element(v reflect.Value, key, pattern, lead string) {
	g.out.WriteString(lead + key + ":\n")
	inner := referenceGenerator{schema: g.schema, docs: g.docs, used: g.used}
	inner.block(v.Interface(), pattern, lead+"    ", "")
	text := inner.out.String()
	// The dash stands before the first key; the comment before it begins where the
	// dash does.
	first := strings.Index("\n"+text, "\n"+lead+"    "+g.schema.keys(v.Type())[0]+":")
	comment := strings.Replace(text[:first], lead+"    #", lead+"  #", 1)
	g.out.WriteString(comment + lead + "  - " + text[first+len(lead)+4:])
}

// off begins what is commented out; within it nothing is commented out again.
func off(lead string) string {
	if strings.Contains(lead, "#") {
		return lead
	}
	return lead + "#"
}

// value writes a default, or the example where there is one.
func (g *referenceGenerator) value(v reflect.Value, pattern string) string {
	if example, ok := referenceExamples[pattern]; ok {
		g.used[pattern] = true
		return example
	}
	if v.Kind() == reflect.Slice {
		items := make([]string, v.Len())
		for i := range items {
			items[i] = g.value(v.Index(i), "")
		}
		if len(items) == 0 {
			return "[]"
		}
		return "[ " + strings.Join(items, ", ") + " ]"
	}
	switch value := v.Interface().(type) {
	case time.Duration:
		return shortDuration(value)
	case encoding.TextMarshaler:
		text, err := value.MarshalText()
		if err != nil {
			return err.Error()
		}
		return string(text)
	case string:
		if regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`).MatchString(value) {
			return value
		}
		return strconv.Quote(value)
	default:
		return fmt.Sprint(value)
	}
}

// shortDuration gives "1m" for what time.Duration writes as "1m0s".
func shortDuration(d time.Duration) string {
	if d%time.Second == 0 && d < 2*time.Minute {
		return strconv.Itoa(int(d.Seconds())) + "s"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// comment makes one line of a field's comment: its first sentence, and those about
// what must be written.
func (g *referenceGenerator) comment(f field, block reflect.Type, pattern string) string {
	if text, ok := referenceComments[pattern]; ok {
		g.used["comment of "+pattern] = true
		return text
	}
	sentences := regexp.MustCompile(`(\.|\)) (?:[A-Z0-9"])`).ReplaceAllStringFunc(g.docs.of(f), func(end string) string {
		return end[:1] + "\x00" + end[2:]
	})
	var kept []string
	for i, sentence := range strings.Split(sentences, "\x00") {
		must := regexp.MustCompile(`^(Required|Exactly one|At most one|At least one|Absent|0 |Default:|Default [^ ]+: )`).MatchString(sentence)
		if i == 0 || must {
			kept = append(kept, sentence)
		}
	}
	text := strings.Join(kept, " ")
	for _, other := range g.schema.fields(block) {
		// Go names become keys where they cannot be English words.
		start, anywhere := "^", strings.IndexFunc(other.name[1:], unicode.IsUpper) >= 0 && strings.IndexFunc(other.name, unicode.IsLower) >= 0
		switch {
		case f.owner != other.owner:
			continue
		case anywhere:
			start = `\b`
		case strings.Contains(text, "one of "):
			start = `\b`
		case f.name != other.name:
			continue
		}
		text = regexp.MustCompile(start+other.name+`\b`).ReplaceAllString(text, other.key)
	}
	return strings.TrimSpace(text)
}

// fieldComments reads the comments of all struct fields in a package, each in one line,
// by "Type.Field". A field without one has that of the field before it, where the two
// stand together.
func fieldComments(t *testing.T, dir string) map[string]string {
	t.Helper()
	comments := map[string]string{}
	files := token.NewFileSet()
	for _, path := range glob(t, filepath.Join(dir, "*.go")) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(files, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			block, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			last := ""
			for _, f := range block.Fields.List {
				text := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
				if text == "" {
					text = last
				}
				last = text
				for _, name := range f.Names {
					comments[spec.Name.Name+"."+name.Name] = text
				}
			}
			return true
		})
	}
	return comments
}
