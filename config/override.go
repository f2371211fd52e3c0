package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

const (
	envPrefix  = "DROVER_"
	configFlag = "config"
	configEnv  = envPrefix + "CONFIG"

	kubernetesVariable = `^DROVER(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|` +
		`PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`
)

// setting is one key that a flag and an environment variable can override.
type setting struct {
	path string // zookeeper.session_timeout
	typ  reflect.Type
}

// flag gives "zookeeper-session-timeout".
func (s setting) flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(s.path)
}

// env gives "DROVER_ZOOKEEPER_SESSION_TIMEOUT".
func (s setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.path, ".", "_"))
}

// settings lists what can be overridden: every single value, and every list of texts,
// outside of the lists of listeners, upstreams and routes.
func settings() []setting {
	var all []setting
	known := schema{}
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for _, f := range known.fields(t) {
			at := join(path, f.key)
			typ := f.typ
			if typ.Kind() == reflect.Pointer {
				typ = typ.Elem()
			}
			switch {
			case f.typ == includeType:
			case isBlock(typ):
				walk(typ, at)
			case typ.Kind() != reflect.Slice, typ.Elem().Kind() == reflect.String:
				all = append(all, setting{at, typ})
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return all
}

// RegisterFlags adds --config (-c), and a flag for every setting that can be
// overridden: --log-level for log.level, --zookeeper-servers for zookeeper.servers. Each
// has an environment variable, DROVER_LOG_LEVEL, DROVER_ZOOKEEPER_SERVERS. A flag wins
// over a variable, a variable over the file. An empty variable counts as none.
func RegisterFlags(flags *pflag.FlagSet) {
	flags.StringP(configFlag, "c", "", "configuration `file` ("+configEnv+"; default "+strings.Join(defaultFiles(), ", then ")+")")
	for _, s := range settings() {
		usage := fmt.Sprintf("overrides %s (%s)", s.path, s.env())
		flags.String(s.flag(), "", usage)
	}
}

// overrides reads flags over environment. Viper knows the precedence; where a value
// came from is asked separately, for the errors.
type overrides struct {
	viper *viper.Viper
	flags *pflag.FlagSet
}

func newOverrides(flags *pflag.FlagSet) (*overrides, error) {
	o := &overrides{viper: viper.New(), flags: flags}
	if err := o.bind(configFlag, configFlag, configEnv); err != nil {
		return nil, err
	}
	for _, s := range settings() {
		if err := o.bind(s.path, s.flag(), s.env()); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *overrides) bind(key, flag, env string) error {
	if err := o.viper.BindEnv(key, env); err != nil {
		return fmt.Errorf("cannot bind environment variable %s: %w", env, err)
	}
	if f := o.flag(flag); f != nil {
		if err := o.viper.BindPFlag(key, f); err != nil {
			return fmt.Errorf("cannot bind flag --%s: %w", flag, err)
		}
	}
	return nil
}

func (o *overrides) flag(name string) *pflag.Flag {
	if o.flags == nil {
		return nil
	}
	return o.flags.Lookup(name)
}

// source names where the value of a key was found.
func (o *overrides) source(flag, env string) string {
	if f := o.flag(flag); f != nil && f.Changed {
		return "flag --" + flag
	}
	return "environment variable " + env
}

// file gives the configuration file that a flag or the environment names, "" for none.
func (o *overrides) file() string { return o.viper.GetString(configFlag) }

// apply sets what flags and environment override, and notes where from.
func (o *overrides) apply(cfg *Config, doc *document, found *faults) {
	known := schema{}
	for _, s := range settings() {
		text := o.viper.GetString(s.path)
		f := o.flag(s.flag())
		if text == "" && (f == nil || !f.Changed) {
			continue
		}
		at := Place{Source: o.source(s.flag(), s.env())}
		doc.places[s.path] = at
		v := known.reach(reflect.ValueOf(cfg).Elem(), s.path)
		if v.Kind() == reflect.Slice {
			v.Set(reflect.ValueOf(splitList(text)).Convert(v.Type()))
			continue
		}
		if err := setText(text, v); err != nil {
			found.add(at, s.path, "%w", err)
		}
	}
}

// reach gives the value at a path, making absent blocks on the way.
func (s schema) reach(v reflect.Value, path string) reflect.Value {
	for key := range strings.SplitSeq(path, ".") {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
				s.setDefaults(v.Elem())
			}
			v = v.Elem()
		}
		for _, f := range s.fields(v.Type()) {
			if f.key == key {
				v = v.FieldByIndex(f.index)
				break
			}
		}
	}
	return v
}

// splitList reads "a, b".
func splitList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// checkEnvironment reports variables that look like settings and are none: a misspelt
// one would otherwise do nothing, silently.
//
// Kubernetes puts variables into the environment of every pod for each Service of
// the namespace, such as DROVER_PORT=tcp://10.0.0.1:80 and DROVER_ADMIN_SERVICE_HOST for
// Services called drover and drover-admin. They are let pass; no setting has such a
// name.
func checkEnvironment(found *faults) {
	kubernetes := regexp.MustCompile(kubernetesVariable)
	names := []string{configEnv}
	for _, s := range settings() {
		names = append(names, s.env())
	}
	environ := os.Environ()
	slices.Sort(environ)
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		switch {
		case !strings.HasPrefix(name, envPrefix), value == "", slices.Contains(names, name), kubernetes.MatchString(name):
			continue
		}
		near := "want one that `drover help run` lists"
		if n := nearest(name, names); n != "" {
			near = "want " + n
		}
		found.add(Place{Source: "environment variable " + name}, "", "got an unknown name; %s", near)
	}
}
