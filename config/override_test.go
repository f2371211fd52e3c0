package config

import (
	"errors"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func parseFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("drover", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	RegisterFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

func TestPrecedence(t *testing.T) {
	path := write(t, t.TempDir(), "drover.yaml", minimal+"log: { level: warn }\n")
	f := func(want string, env string, args ...string) {
		t.Helper()
		t.Setenv("DROVER_LOG_LEVEL", env)
		cfg, err := Load(Options{Flags: parseFlags(t, append([]string{"-c", path}, args...)...)})
		if err != nil {
			t.Errorf("cannot load: %v", err)
			return
		}
		if cfg.Log.Level != want {
			t.Errorf("got level %q; want %q", cfg.Log.Level, want)
		}
	}
	f("warn", "")
	f("error", "error")
	f("debug", "error", "--log-level", "debug")
	f("debug", "", "--log-level=debug")
}

func TestOverrideKinds(t *testing.T) {
	path := write(t, t.TempDir(), "drover.yaml", minimal)
	t.Setenv("DROVER_CONFIG", path)
	t.Setenv("DROVER_DRAIN_TIMEOUT", "7s")
	t.Setenv("DROVER_ADMIN_PPROF", "true")
	t.Setenv("DROVER_ADMIN_ADDRESS", "127.0.0.1:9911")
	t.Setenv("DROVER_ACCESS_LOG_SAMPLE", "0.5")
	t.Setenv("DROVER_METRICS_MAX_SERIES", "500")
	t.Setenv("DROVER_ZOOKEEPER_SERVERS", "zk1:2181, zk2:2181")
	t.Setenv("DROVER_ZOOKEEPER_SNAPSHOT_DIR", "state")
	dir := t.TempDir()
	t.Chdir(dir)
	cfg, err := Load(Options{Flags: parseFlags(t, "--zookeeper-session-timeout=20s")})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.DrainTimeout != 7*time.Second || !cfg.Admin.PProf || cfg.Admin.Address != "127.0.0.1:9911" ||
		cfg.AccessLog.Sample != 0.5 || cfg.Metrics.MaxSeries != 500 {
		t.Errorf("got %+v; want what the environment says", cfg)
	}
	zk := cfg.ZooKeeper
	if zk == nil || !slices.Equal(zk.Servers, []string{"zk1:2181", "zk2:2181"}) || zk.SessionTimeout != 20*time.Second ||
		zk.ConnectTimeout != 2*time.Second || zk.SnapshotDir != dir+"/state" {
		t.Errorf("got zookeeper %+v; want it from environment, flags and defaults", zk)
	}
}

func TestOverrideFaults(t *testing.T) {
	path := write(t, t.TempDir(), "drover.yaml", minimal)
	f := func(env, value, arg, want string) {
		t.Helper()
		t.Setenv(env, value)
		defer t.Setenv(env, "")
		args := []string{"-c", path}
		if arg != "" {
			args = append(args, arg)
		}
		_, err := Load(Options{Flags: parseFlags(t, args...)})
		var all *Errors
		if !errors.As(err, &all) || err.Error() != want {
			t.Errorf("got error\n%v\nwant\n%s", err, want)
		}
	}
	f("DROVER_DRAIN_TIMEOUT", "7", "", `environment variable DROVER_DRAIN_TIMEOUT: drain_timeout: got "7"; want a duration with a unit such as 5s`)
	f("DROVER_LOG_LEVEL", "loud", "", `environment variable DROVER_LOG_LEVEL: log.level: got "loud"; want one of debug, info, warn, error`)
	f("X", "", "--log-level=loud", `flag --log-level: log.level: got "loud"; want one of debug, info, warn, error`)
	f("X", "", "--admin-pprof=yes", `flag --admin-pprof: admin.pprof: got "yes"; want true or false`)
	f("X", "", "--log-output=", `flag --log-output: log.output: got nothing; want stderr, stdout or a file's path`)
	f("DROVER_LOG_LEVLE", "debug", "", `environment variable DROVER_LOG_LEVLE: got an unknown name; want DROVER_LOG_LEVEL`)
	f("DROVER_XYZZY", "1", "", "environment variable DROVER_XYZZY: got an unknown name; want one that `drover help run` lists")
	f("DROVER_ZOOKEEPER_SESSION_TIMEOUT", "5s", "", path+":1:1: zookeeper.servers: got none; want at least one host:port")
}

// TestKubernetesVariables lets pass what Kubernetes adds to a pod's environment for
// Services called drover, drover-admin and drover-zookeeper.
func TestKubernetesVariables(t *testing.T) {
	names := map[string]string{
		"DROVER_SERVICE_HOST":                "10.0.0.1",
		"DROVER_SERVICE_PORT":                "80",
		"DROVER_SERVICE_PORT_HTTP":           "80",
		"DROVER_PORT":                        "tcp://10.0.0.1:80",
		"DROVER_PORT_80_TCP":                 "tcp://10.0.0.1:80",
		"DROVER_PORT_80_TCP_PROTO":           "tcp",
		"DROVER_PORT_80_TCP_PORT":            "80",
		"DROVER_PORT_80_TCP_ADDR":            "10.0.0.1",
		"DROVER_ADMIN_SERVICE_HOST":          "10.0.0.1",
		"DROVER_ADMIN_PORT":                  "tcp://10.0.0.1:9900",
		"DROVER_ZOOKEEPER_SERVICE_HOST":      "10.0.0.1",
		"DROVER_ZOOKEEPER_PORT_2181_TCP":     "tcp://10.0.0.1:2181",
		"DROVER_ZOOKEEPER_SERVICE_PORT_PEER": "2888",
	}
	for name, value := range names {
		t.Setenv(name, value)
	}
	load(t, write(t, t.TempDir(), "drover.yaml", minimal))

	pattern := regexp.MustCompile(kubernetesVariable)
	for _, s := range settings() {
		if pattern.MatchString(s.env()) {
			t.Errorf("setting %s has a variable, %s, that Kubernetes may set", s.path, s.env())
		}
	}
}

// TestSettings wants each setting to have a flag and a variable of its own, and the
// lists to have none.
func TestSettings(t *testing.T) {
	seen := map[string]bool{configFlag: true, configEnv: true}
	paths := map[string]bool{}
	for _, s := range settings() {
		if seen[s.flag()] || seen[s.env()] {
			t.Errorf("setting %s shares flag --%s or variable %s with another", s.path, s.flag(), s.env())
		}
		seen[s.flag()], seen[s.env()], paths[s.path] = true, true, true
		if strings.HasPrefix(s.path, "upstreams") || strings.HasPrefix(s.path, "listeners") || strings.HasPrefix(s.path, "routes") {
			t.Errorf("got setting %s; want none in a list", s.path)
		}
		cfg := WithDefaults[Config]()
		if v := (schema{}).reach(reflect.ValueOf(&cfg).Elem(), s.path); v.Type() != s.typ {
			t.Errorf("got type %s at %s; want %s", v.Type(), s.path, s.typ)
		}
	}
	for _, want := range []string{"admin.address", "admin.pprof", "log.level", "access_log.format", "metrics.max_series", "drain_timeout", "zookeeper.servers", "zookeeper.auth.credentials_file"} {
		if !paths[want] {
			t.Errorf("got no setting %s", want)
		}
	}
}
