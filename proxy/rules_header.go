package proxy

import (
	"slices"

	"drover/exchange"
	"drover/invalid"
)

// HeaderRules are compiled HeaderOps. They are immutable.
type HeaderRules struct {
	remove []string
	set    []headerRule
	add    []headerRule
}

type headerRule struct {
	name  []byte
	text  string    // name as text
	value []byte    // when it has no variables
	from  *template // otherwise
}

func compileHeaderRules(cfg *HeaderOps) (HeaderRules, error) {
	rules := HeaderRules{remove: cfg.Remove}
	var err error
	if rules.set, err = compileHeaderValues(cfg.Set); err != nil {
		return rules, invalid.In("set", err)
	}
	if rules.add, err = compileHeaderValues(cfg.Add); err != nil {
		return rules, invalid.In("add", err)
	}
	return rules, nil
}

func compileHeaderValues(list []HeaderValue) ([]headerRule, error) {
	var rules []headerRule
	for _, h := range list {
		value, err := parseTemplate(h.Value)
		if err != nil {
			return nil, err
		}
		rule := headerRule{name: []byte(h.Name), text: h.Name, from: value}
		if text, constant := value.constant(); constant {
			rule.value, rule.from = []byte(text), nil
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// Apply changes a list of fields: removes, then sets, then adds. A field that is set
// takes the place of the first of its name. The list's own memory is changed, the
// values in it are not; values with variables are written to v.Scratch.
func (r *HeaderRules) Apply(h *exchange.Header, v Vars) {
	for _, name := range r.remove {
		h.Del(name)
	}
	for i := range r.set {
		r.set[i].setIn(h, v)
	}
	for i := range r.add {
		rule := &r.add[i]
		*h = append(*h, exchange.Field{Name: rule.name, Value: rule.valueFor(v)})
	}
}

// ApplyInterim is Apply for an interim answer. A field is set only where there is one of
// its name, and none is added: what every answer is to say, the final one says.
func (r *HeaderRules) ApplyInterim(h *exchange.Header, v Vars) {
	for _, name := range r.remove {
		h.Del(name)
	}
	for i := range r.set {
		if h.Has(r.set[i].text) {
			r.set[i].setIn(h, v)
		}
	}
}

func (r *headerRule) setIn(h *exchange.Header, v Vars) {
	field := exchange.Field{Name: r.name, Value: r.valueFor(v)}
	first := slices.IndexFunc(*h, func(f exchange.Field) bool { return exchange.EqualFold(f.Name, r.text) })
	if first < 0 {
		*h = append(*h, field)
		return
	}
	(*h)[first] = field
	rest := (*h)[first+1:]
	rest.Del(r.text)
	*h = (*h)[:first+1+len(rest)]
}

func (r *headerRule) valueFor(v Vars) []byte {
	if r.from == nil {
		return r.value
	}
	if v.Scratch == nil {
		return r.from.appendField(nil, v)
	}
	from := len(*v.Scratch)
	*v.Scratch = r.from.appendField(*v.Scratch, v)
	return (*v.Scratch)[from:len(*v.Scratch):len(*v.Scratch)]
}
