package format

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// show prints what an entry decodes to, as one line.
func show(format, path, data string) string {
	decode, err := Lookup(format)
	if err != nil {
		return err.Error()
	}
	servers, err := decode(path, []byte(data))
	if err != nil {
		return "error: " + err.Error()
	}
	var parts []string
	for _, s := range servers {
		text := fmt.Sprintf("%s w=%d", s.ID, s.Weight)
		if s.Priority > 0 {
			text += fmt.Sprintf(" p=%d", s.Priority)
		}
		if s.Zone != "" {
			text += " z=" + s.Zone
		}
		if len(s.Tags) > 0 {
			text += " t=" + strings.Join(s.Tags, ",")
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

const (
	curatorPlain  = `{"name":"web","id":"i-1","address":"10.0.0.1","port":8080,"sslPort":null,"payload":"weight=3","registrationTimeUTC":1795403723405,"serviceType":"DYNAMIC","uriSpec":{"parts":[{"value":"scheme","variable":true}]}}`
	curatorTLS    = `{"name":"web","id":"i-2","address":"2001:db8::1","port":null,"sslPort":8443,"payload":null,"serviceType":"PERMANENT","uriSpec":null}`
	springCloud   = `{"name":"orders","id":"u","address":"h.example","port":80,"payload":{"@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"orders-1","name":"orders","metadata":{"instance_status":"UP","weight":"7","zone":"a"}}}`
	springDown    = `{"address":"h","port":80,"payload":{"metadata":{"instance_status":"OUT_OF_SERVICE"}}}`
	dubbo3        = `{"name":"app","address":"192.0.2.2","port":20880,"payload":{"@class":"org.apache.dubbo.registry.zookeeper.ZookeeperInstance","metadata":{"dubbo.endpoints":"[{\"port\":20880,\"protocol\":\"dubbo\"},{\"port\":50051,\"protocol\":\"tri\"}]"}}}`
	dubbo3Texts   = `{"address":"192.0.2.2","port":20880,"payload":{"metadata":{"dubbo.endpoints":"[{\"port\":\"50051\",\"protocol\":\"TRI\"}]"}}}`
	dubbo3Foreign = `{"address":"192.0.2.2","port":20880,"payload":{"metadata":{"dubbo.endpoints":"[{\"port\":1,\"protocol\":\"dubbo\"},{\"port\":2,\"protocol\":\"grpc\"}]"}}}`
	dubboName     = `/dubbo/org.example.Hello/providers/tri%3A%2F%2F192.0.2.2%3A20892%2Forg.example.Hello%3Fgroup%3Dg1%26version%3D1.0.0`
	dubboWeighted = `/p/rest%3A%2F%2F%5B2001%3Adb8%3A%3A5%5D%3A80%2Fx%3Fweight%3D0%26dubbo.tag%3Dgray`
	dubboForeign  = `/p/dubbo%3A%2F%2F192.0.2.2%3A20892%2Fx`
	aurora        = `{"serviceEndpoint":{"host":"foo","port":1000},"additionalEndpoints":{"http":{"host":"foo","port":8080}},"status":"ALIVE","shard":0}`
	nerveFull     = `{"host":"10.0.0.1","port":3000,"name":"i-0","weight":5,"haproxy_server_options":"inter 2s backup","labels":{"az":"x"}}`
)

func TestDecoders(t *testing.T) {
	f := func(format, path, data, want string) {
		t.Helper()
		if got := show(format, path, data); got != want {
			t.Errorf("%s %q %q:\n got %s\nwant %s", format, path, data, got, want)
		}
	}
	nerveInName := "/s/base64_" + fmt.Sprint(len(b64(nerveFull))) + "_" + b64(nerveFull) + "_0000000007"

	f("curator", "/a/i-1", curatorPlain, "http://10.0.0.1:8080 w=1")
	f("curator", "/a/i-2", curatorTLS, "https://[2001:db8::1]:8443 w=1")
	f("curator", "/a/i-3", springCloud, "http://h.example:80 w=7 z=a")
	f("curator", "/a/i-4", springDown, "")
	f("curator", "/a/i-5", `{"address":"h","port":80,"enabled":false}`, "")
	f("curator", "/a/i-6", `{"address":"h","port":"8080"}`, "http://h:8080 w=1")
	f("curator", "/a/i-7", `{"address":"h"}`, "error: got neither port nor sslPort; want one")
	f("curator", "/a/i-8", `{"address":"","port":80}`, "error: got no host; want a name or an address")
	f("curator", "/a/i-9", `{"address":"u@h","port":80}`, `error: got host "u@h"; want a name or an address`)
	f("curator", "/a/zone", `{"address":"fe80::1%x\r\nX: 1","port":80}`, `error: got host "fe80::1%x\r\nX: 1"; want a name or an address`)
	f("curator", "/a/i-10", `{"address":"h","port":70000}`, "error: got port 70000; want 1 to 65535")
	f("curator", "/a/d", dubbo3, "http://192.0.2.2:50051 w=1")

	f("dubbo", dubboName, "127.0.0.1", "http://192.0.2.2:20892 w=100")
	f("dubbo", dubboWeighted, "", "http://[2001:db8::5]:80 w=0 t=gray")
	f("curator", "/a/d", dubbo3Texts, "http://192.0.2.2:50051 w=1")
	f("curator", "/a/d", dubbo3Foreign, `error: got protocol "dubbo, grpc"; want http, https, rest or tri`)
	f("curator", "/a/name", `{"address":"Web-1.Example.","port":80}`, "http://web-1.example:80 w=1")
	f("curator", "/a/v6", `{"address":"2001:DB8:0::1","port":80}`, "http://[2001:db8::1]:80 w=1")
	f("curator", "/a/v4in6", `{"address":"::ffff:10.0.0.1","port":80}`, "http://10.0.0.1:80 w=1")
	f("curator", "/a/dot", `{"address":".","port":80}`, "error: got no host; want a name or an address")

	f("dubbo", dubboForeign, "", `error: got protocol "dubbo"; want http, https, rest or tri`)
	f("dubbo", "/p/rest%3A%2F%2Fme%3Asecret%40h%3A80%2Fx", "", "error: got user information in the URL; want none")
	f("dubbo", "/services/app/192.0.2.2:20880", dubbo3, "http://192.0.2.2:50051 w=1")
	f("dubbo", "/p/x", "", `error: got name "x"; want a percent-encoded URL, or JSON as content`)
	f("dubbo", "/p/rest%3A%2F%2Fh%3A80%2Fx%3Fenabled%3Dfalse", "", "")

	f("serverset", "/s/member_0000000001", aurora, "http://foo:8080 w=1")
	f("serverset", "/s/member_1", `{"serviceEndpoint":{"host":"foo","port":1000},"status":"ALIVE"}`, "http://foo:1000 w=1")
	f("serverset", "/s/member_1", `{"serviceEndpoint":{"host":"foo","port":1000},"status":"DEAD"}`, "")
	f("serverset", "/s/member_1", `{"serviceEndpoint":{"host":"foo","port":1000},"additionalEndpoints":{"http":{"host":"foo"}}}`, "http://foo:1000 w=1")
	f("serverset", "/s/vector_1", `{"vector":[]}`, "")
	f("serverset", "/s/member_1", `{"status":"ALIVE"}`, "error: got no serviceEndpoint with host and port; want one")

	f("nerve", "/s/i-0_0000000000", nerveFull, "http://10.0.0.1:3000 w=5 p=1 z=x")
	f("nerve", "/s/i", `{"host":"h","port":1,"weight":0}`, "http://h:1 w=0")
	f("nerve", "/s/i", `{"host":"h","port":1,"weight":0.25}`, "http://h:1 w=1")
	f("nerve", "/s/i", `{"host":"h","port":1,"weight":1e9}`, "http://h:1 w=65535")
	f("nerve", "/s/i", `{"host":"h","port":1,"weight":-1}`, `error: got weight "-1"; want a number of 0 or more`)
	f("nerve", nerveInName, "", "http://10.0.0.1:3000 w=5 p=1 z=x")
	f("nerve", "/s/base64_999_xx_0", "", `error: got name "base64_999_xx_0"; want base64_LENGTH_RECORD_SEQUENCE`)

	f("plain", "/s/10.0.0.1:80", "", "http://10.0.0.1:80 w=1")
	f("plain", "/s/node-0000000001", "[2001:db8::1]:80\n", "http://[2001:db8::1]:80 w=1")
	f("plain", "/s/n", "https://h:443/ weight=4 zone=b priority=1", "https://h:443 w=4 p=1 z=b")
	f("plain", "/s/n", "h:80 colour=red", `error: got "colour=red"; want weight=, zone= or priority=`)
	f("plain", "/s/n", "ftp://h:80", `error: got scheme "ftp"; want http or https`)

	f("auto", "/a/i", springCloud, "http://h.example:80 w=7 z=a")
	f("auto", dubboName, "", "http://192.0.2.2:20892 w=100")
	f("auto", "/s/member_1", aurora, "http://foo:8080 w=1")
	f("auto", "/s/i", nerveFull, "http://10.0.0.1:3000 w=5 p=1 z=x")
	f("auto", nerveInName, "", "http://10.0.0.1:3000 w=5 p=1 z=x")
	f("auto", "/s/h:80", "", "http://h:80 w=1")
	f("auto", "/s/x", `{"a":1}`, "error: got JSON with keys a; want serviceEndpoint (serverset), address (curator) or host and port (nerve)")
	f("auto", "/s/x", `{"address":"h","host":"h","port":80}`, "error: got JSON with keys address, host, port, which reads as curator and as nerve; want one, or a format that names it")
	f("thrift", "", "", `got format "thrift"; want one of auto, curator, dubbo, nerve, plain, serverset`)
}

func b64(text string) string { return base64.URLEncoding.EncodeToString([]byte(text)) }

func TestNameOnly(t *testing.T) {
	for name, want := range map[string]bool{
		"tri%3A%2F%2Fh%3A80%2Fx": true, "base64_4_YWJj_0": true, "i-1": false, "10.0.0.1:80": false, "%zz%3A%2F%2F": false,
	} {
		if got := NameOnly(name); got != want {
			t.Errorf("NameOnly(%q) = %v; want %v", name, got, want)
		}
	}
}

func TestRejectsLogOnce(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	r := NewRejects(zap.New(core))
	for range 3 {
		r.Add("/a", errors.New("bad port"))
	}
	r.Add("/a", errors.New("bad host"))
	r.Add("/a", errors.New("bad port")) // two reasons that take turns
	r.Add("/b", errors.New("bad port"))
	if got := logs.Len(); got != 3 {
		t.Errorf("logged %d lines; want one per path and reason, 3", got)
	}
	r.Remove("/a")
	if list := r.List(); len(list) != 1 || list[0].Path != "/b" || r.Total() != 6 {
		t.Errorf("list %v, total %d; want only /b, total 6", list, r.Total())
	}
	for i := range 2 * maxRejects {
		r.Add(fmt.Sprint("/x", i), errors.New("bad"))
	}
	if n := len(r.List()); n != maxRejects {
		t.Errorf("remembers %d entries; want %d", n, maxRejects)
	}
}

func FuzzDecoders(f *testing.F) {
	for _, data := range []string{curatorPlain, curatorTLS, springCloud, dubbo3, aurora, nerveFull, "h:80 weight=2", ""} {
		f.Add("/s/n", []byte(data))
	}
	f.Add(dubboName, []byte(nil))
	f.Add(dubboWeighted, []byte(nil))
	f.Add("/s/base64_4_e30=_0", []byte(nil))
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		for _, name := range Names() {
			decode, err := Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			servers, err := decode(path, data)
			if err != nil && len(servers) > 0 {
				t.Fatalf("%s gave both servers and an error", name)
			}
			for _, s := range servers {
				if s.Port == 0 || s.Weight < 0 || s.Weight > 65535 || s.Scheme != "http" && s.Scheme != "https" {
					t.Fatalf("%s gave %+v", name, s)
				}
				if a, err := netip.ParseAddr(s.Host); (err != nil || a.Zone() != "") && strings.ContainsAny(s.Host, "@/ \t\r\n:") {
					t.Fatalf("%s gave host %q", name, s.Host)
				}
			}
		}
	})
}
