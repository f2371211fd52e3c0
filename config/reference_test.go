package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const referencePath = "../examples/reference.yaml"

// referenceExamples are the values in reference.yaml that are no defaults: of keys that
// must be written, and of those whose default is nothing and whose form is worth
// showing. Keys are paths without indexes.
var referenceExamples = map[string]string{
	"listeners[].name":                         "web",
	"listeners[].address":                      `":8080"`,
	"listeners[].tls.certificates[].cert_file": "site.pem",
	"listeners[].tls.certificates[].key_file":  "site.key",
	"zookeeper.servers":                        `[ "127.0.0.1:2181" ]`,
	"zookeeper.auth.credentials_file":          "zookeeper.secret",
	"upstreams[].name":                         "users",
	"upstreams[].servers[].address":            `"10.0.0.1:8080"`,
	"upstreams[].discover.zookeeper.path":      "/services/users",
	"upstreams[].discover.file.path":           "servers.d",
	"upstreams[].discover.dns.name":            "users.local",
	"upstreams[].discover.dns.port":            "8080",
	"upstreams[].check.headers[].name":         "X-Probe",
	"upstreams[].check.headers[].value":        "drover",
	"upstreams[].sticky.secret_file":           "sticky.secret",
	"routes[].upstream":                        "users",
	"routes[].headers[].name":                  "X-Version",
	"routes[].headers[].value":                 "beta",
	"routes[].query[].name":                    "version",
	"routes[].query[].value":                   "beta",
	"routes[].split[].upstream":                "users",
	"routes[].redirect.to":                     `"https://{host}{path}{query}"`,
	"routes[].rewrite.regexp":                  `"^/old/(.*)$"`,
	"routes[].rewrite.replacement":             "/new/$1",
	"routes[].request_headers.set[].name":      "X-Request-ID",
	"routes[].request_headers.set[].value":     `"{request_id}"`,
	"routes[].request_headers.add[].name":      "X-Seen-By",
	"routes[].request_headers.add[].value":     "drover",
	"routes[].response_headers.set[].name":     "Strict-Transport-Security",
	"routes[].response_headers.set[].value":    "max-age=31536000",
	"routes[].response_headers.add[].name":     "X-Served-By",
	"routes[].response_headers.add[].value":    "drover",
	"routes[].name":                            "users",
}

// referenceComments replace comments that speak to the readers of the code.
var referenceComments = map[string]string{
	"routes[].path_regexp":                  "path_regexp is a regular expression (RE2) searched for in the path; anchor it with ^ and $.",
	"routes[].request_headers.set[].value":  "value may use {host} {path} {query} {method} {scheme} {client_ip} {request_id} {route} {upstream}.",
	"routes[].request_headers.add[].value":  "value is a template, as in set.",
	"routes[].response_headers.set[].value": "value is a template, as in request_headers.",
	"routes[].response_headers.add[].value": "value is a template, as in request_headers.",
	"upstreams[].discover.zookeeper.format": "format is how the entries are written.",
	"upstreams[].check.headers[].name":      "name of the field.",
	"upstreams[].check.headers[].value":     "value of the field.",
	"upstreams[].policy.key":                "key says what ring_hash and maglev hash: header:NAME, cookie:NAME, query:NAME, path, host, client, or several with +.",
}

// referenceActive are the lists that reference.yaml does not comment out, so that it is
// a configuration that works.
var referenceActive = []string{"listeners", "upstreams", "upstreams[].servers", "routes"}

// TestReference holds examples/reference.yaml against the code: its text is made from
// the code's keys, defaults and comments. Run it with -rewrite to make it anew.
func TestReference(t *testing.T) {
	g := newReferenceGenerator(t)
	compareGolden(t, referencePath, g.generate())
	for path := range referenceExamples {
		if !g.used[path] {
			t.Errorf("got an example for %s, which is no key", path)
		}
	}
	for path := range referenceComments {
		if !g.used["comment of "+path] {
			t.Errorf("got a comment for %s, which is no key", path)
		}
	}
}

// TestReferenceLoads wants the reference to be a configuration that works.
func TestReferenceLoads(t *testing.T) {
	if _, err := Load(Options{Path: referencePath}); err != nil {
		t.Errorf("cannot load: %v", err)
	}
}

// TestReferenceIsComplete compares the reference, with what is commented out in it,
// with the code in both directions, without the generator's help.
func TestReferenceIsComplete(t *testing.T) {
	text, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^( *)#(\S|  )`).ReplaceAll(text, []byte("$1$2"))
	cfg := WithDefaults[Config]()
	var found faults
	decode("reference.yaml", text, &cfg, &found)
	if err := found.err(); err != nil {
		t.Fatalf("got keys or values that the code does not know:\n%v", err)
	}
	root, parseFaults := parse(text)
	if len(parseFaults) > 0 {
		t.Fatalf("cannot parse: %v", parseFaults[0].err)
	}
	c := completeness{t, schema{}}
	defaults := WithDefaults[Config]()
	c.block(root, reflect.ValueOf(cfg), reflect.ValueOf(defaults), "")
}

type completeness struct {
	t      *testing.T
	schema schema
}

// block wants all keys of a block written, and written with their defaults.
func (c completeness) block(n *node, v, defaults reflect.Value, pattern string) {
	for _, f := range c.schema.fields(v.Type()) {
		at, value := join(pattern, f.key), v.FieldByIndex(f.index)
		i := slices.IndexFunc(n.pairs, func(p pair) bool { return p.key == f.key })
		if i < 0 {
			c.t.Errorf("the reference has no key %s", at)
			continue
		}
		written := n.pairs[i].value
		switch {
		case value.Kind() == reflect.Pointer && isBlock(value.Type().Elem()):
			c.block(written, value.Elem(), c.defaults(value.Type().Elem()), at)
		case isBlock(value.Type()):
			c.block(written, value, defaults.FieldByIndex(f.index), at)
		case value.Kind() == reflect.Slice && isBlock(value.Type().Elem()):
			if value.Len() != 1 {
				c.t.Errorf("the reference has %d elements of %s; want 1", value.Len(), at)
				continue
			}
			c.block(written.items[0], value.Index(0), c.defaults(value.Type().Elem()), at+"[]")
		default:
			want := defaults.FieldByIndex(f.index).Interface()
			_, example := referenceExamples[at]
			same := reflect.DeepEqual(value.Interface(), want) ||
				value.Kind() == reflect.Slice && value.Len() == 0 && reflect.ValueOf(want).Len() == 0
			if !same && !example {
				c.t.Errorf("the reference has %s: %v; the default is %v", at, value, want)
			}
		}
	}
}

func (c completeness) defaults(block reflect.Type) reflect.Value {
	v := reflect.New(block).Elem()
	c.schema.setDefaults(v)
	return v
}

// TestSchema wants every field of every block to be of a kind that the decoder takes,
// with a key in the spelling of all keys and a comment.
func TestSchema(t *testing.T) {
	known, docs := schema{}, docComments{t, map[string]map[string]string{}}
	spelling := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	var walk func(typ reflect.Type, pattern string)
	walk = func(typ reflect.Type, pattern string) {
		for _, f := range known.fields(typ) {
			at := join(pattern, f.key)
			if !spelling.MatchString(f.key) {
				t.Errorf("field %s.%s has key %q; want one such as header_timeout", f.owner, f.name, f.key)
			}
			if docs.of(f) == "" && referenceComments[at] == "" {
				t.Errorf("field %s.%s has no comment", f.owner, f.name)
			}
			elem := f.typ
			if elem.Kind() == reflect.Slice {
				at += "[]"
			}
			if elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
				elem = elem.Elem()
			}
			switch {
			case f.typ.Kind() == reflect.Pointer && !isBlock(elem):
				t.Errorf("%s is a %s; want pointers to blocks only", at, f.typ)
			case isBlock(elem):
				walk(elem, at)
			default:
				if err := setText("1", reflect.New(elem).Elem()); err != nil && strings.Contains(err.Error(), "cannot be set") {
					t.Errorf("%s is a %s, which the decoder does not take", at, f.typ)
				}
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
}

// docComments finds the comments of struct fields in the packages' sources.
type docComments struct {
	t        *testing.T
	packages map[string]map[string]string // by import path, then "Type.Field"
}

func (d docComments) of(f field) string {
	pkg := f.owner.PkgPath()
	if d.packages[pkg] == nil {
		dir, err := filepath.Abs(filepath.Join("..", strings.TrimPrefix(pkg, "drover/")))
		if err != nil {
			d.t.Fatal(err)
		}
		d.packages[pkg] = fieldComments(d.t, dir)
	}
	return d.packages[pkg][f.owner.Name()+"."+f.name]
}
