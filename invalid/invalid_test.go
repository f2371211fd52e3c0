package invalid

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
)

// texts gives all faults as "path: text".
func texts(err error) []string {
	list := []string{}
	for _, f := range Fields(err) {
		list = append(list, f.Path+": "+f.Err.Error())
	}
	return list
}

func TestFields(t *testing.T) {
	a, b, plain := Fieldf("a", "got %d", 1), Fieldf("b[0].c", "bad"), errors.New("plain")
	for _, c := range []struct {
		name string
		err  error
		want []string
	}{
		{"none", nil, []string{}},
		{"one", a, []string{"a: got 1"}},
		{"joined", errors.Join(a, nil, b), []string{"a: got 1", "b[0].c: bad"}},
		{"joined twice", errors.Join(errors.Join(a, plain), errors.Join(errors.Join(b))), []string{"a: got 1", ": plain", "b[0].c: bad"}},
		{"a plain error", plain, []string{": plain"}},
		{"wrapped, which says more", fmt.Errorf("while reading: %w", a), []string{": while reading: a: got 1"}},
		{"two wrapped", fmt.Errorf("cannot use %w with %w", a, plain), []string{": cannot use a: got 1 with plain"}},
		{"all nil", errors.Join(nil, nil), []string{}},
	} {
		if got := texts(c.err); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q; want %q", c.name, got, c.want)
		}
	}
}

func TestIn(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want []string
	}{
		{"a key", In("check", Fieldf("interval", "x")), []string{"check.interval: x"}},
		{"an element", In("servers", Fieldf("[2].address", "x")), []string{"servers[2].address: x"}},
		{"in an element", In("servers[2]", Fieldf("address", "x")), []string{"servers[2].address: x"}},
		{"the block itself", In("check", Fieldf("", "x")), []string{"check: x"}},
		{"a plain error", In("name", errors.New("x")), []string{"name: x"}},
		{"deep", In("upstreams[1]", In("outlier", In("success_rate", Fieldf("window", "x")))), []string{"upstreams[1].outlier.success_rate.window: x"}},
		{"joined", In("a", errors.Join(Fieldf("b", "x"), In("c", errors.Join(Fieldf("d", "y"), errors.New("z"))))),
			[]string{"a.b: x", "a.c.d: y", "a.c: z"}},
		{"nothing", In("a", nil), []string{}},
	} {
		if got := texts(c.err); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q; want %q", c.name, got, c.want)
		}
	}
	if err := In("a", nil); err != nil {
		t.Errorf("In of nil gives %v; want nil", err)
	}
	if err := In("a", errors.Join(nil)); err != nil {
		t.Errorf("In of nothing joined gives %v; want nil", err)
	}
}

// TestCause wants what went wrong to be known to code through every wrapping.
func TestCause(t *testing.T) {
	err := In("tls", errors.Join(Fieldf("ca_file", "cannot read: %w", fs.ErrNotExist), Fieldf("cert_file", "x")))
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
		t.Errorf("%v hides its cause, or has another", err)
	}
	var first *Field
	if !errors.As(err, &first) || first.Path != "tls.ca_file" {
		t.Errorf("the first fault is %v; want tls.ca_file", first)
	}
}

func TestFieldText(t *testing.T) {
	for _, c := range [][2]string{{"a.b", "a.b: got 1"}, {"", "got 1"}} {
		if got := Fieldf(c[0], "got %d", 1).Error(); got != c[1] {
			t.Errorf("got %q; want %q", got, c[1])
		}
	}
}
