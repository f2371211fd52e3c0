package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"drover/discovery"
	"drover/proxy"
	"drover/proxy/front"
)

// isPath reports whether a key names a file or a directory: one that ends in _file
// or _dir, and the few that are called otherwise.
func isPath(f field, value string) bool {
	switch f.owner {
	case reflect.TypeFor[discovery.FileConfig]():
		return f.key == "path"
	case reflect.TypeFor[front.TicketsConfig]():
		return f.key == "file"
	case reflect.TypeFor[LogConfig](), reflect.TypeFor[proxy.AccessLogConfig]():
		return f.key == "output" && value != "stdout" && value != "stderr"
	}
	return strings.HasSuffix(f.key, "_file") || strings.HasSuffix(f.key, "_dir")
}

// resolvePaths makes the relative paths in a configuration absolute, as seen from a
// directory.
func resolvePaths(v reflect.Value, dir string) {
	known := schema{}
	eachBlock(known, v, "", func(block reflect.Value, _ string) {
		for _, f := range known.fields(block.Type()) {
			if f.typ.Kind() != reflect.String {
				continue
			}
			value := block.FieldByIndex(f.index)
			path := value.String()
			if path == "" || filepath.IsAbs(path) || !isPath(f, path) {
				continue
			}
			if absolute, err := filepath.Abs(filepath.Join(dir, path)); err == nil {
				value.SetString(absolute)
			}
		}
	})
}

// readReferenced reads the certificates, keys and secrets that the configuration
// names, and reports those that are missing or no good.
func (l *loader) readReferenced() {
	known := schema{}
	eachBlock(known, reflect.ValueOf(l.cfg).Elem(), "", func(block reflect.Value, path string) {
		files := map[string][]byte{} // by key
		for _, f := range known.fields(block.Type()) {
			if f.typ.Kind() != reflect.String || !strings.HasSuffix(f.key, "_file") {
				continue
			}
			if name := block.FieldByIndex(f.index).String(); name != "" {
				files[f.key] = l.readSecret(name, join(path, f.key))
			}
		}
		if files["cert_file"] != nil && files["key_file"] != nil {
			l.checkKeyPair(files["cert_file"], files["key_file"], join(path, "cert_file"))
		}
		if files["cert_file"] != nil && len(bytes.TrimSpace(files["ocsp_file"])) > 0 {
			if err := front.CheckStaple(files["cert_file"], files["ocsp_file"]); err != nil {
				l.at(join(path, "ocsp_file"), "cannot use OCSP answer: %w", err)
			}
		}
		if ca := files["ca_file"]; ca != nil && !x509.NewCertPool().AppendCertsFromPEM(ca) {
			l.at(join(path, "ca_file"), "got a file without a certificate; want certificates in PEM")
		}
	})
}

// readSecret reads a file that a key names, once. It gives nil after an error.
func (l *loader) readSecret(name, path string) []byte {
	content, seen := l.contents[name]
	if !seen {
		var err error
		if content, err = readBounded(name); err != nil {
			content = nil
			l.at(path, "cannot read: %w", err)
		} else if len(bytes.TrimSpace(content)) == 0 {
			l.at(path, "got the empty file %q; want content", name)
		}
		l.contents[name] = content
		l.cfg.addFile(name, content)
		if l.opts.OnRead != nil {
			l.opts.OnRead(name, content)
		}
	}
	return content
}

func (l *loader) checkKeyPair(cert, key []byte, path string) {
	if len(bytes.TrimSpace(cert)) == 0 || len(bytes.TrimSpace(key)) == 0 {
		return // said already.
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		l.at(path, "cannot use certificate and key: %w", err)
		return
	}
	if pair.Leaf != nil && pair.Leaf.NotAfter.Before(time.Now()) {
		l.remark(path, "got a certificate that expired on %s", pair.Leaf.NotAfter.Format(time.DateOnly))
	}
}

// indexed gives the path of a list's element.
func indexed(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
