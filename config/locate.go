package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// defaultFiles are looked for, in this order, when neither -c nor DROVER_CONFIG names
// a file.
func defaultFiles() []string { return []string{"./drover.yaml", "/etc/drover/drover.yaml"} }

// locate gives the configuration file's path: the one that was asked for, else the
// first of the default ones that exists. One that exists and cannot be read is chosen
// too, so that reading it gives the reason.
func locate(asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	for _, path := range defaultFiles() {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return filepath.Clean(path), nil
		}
	}
	return "", fmt.Errorf("cannot find a configuration: no %s; want one of them, -c FILE, %s=FILE, or `drover proxy --from :8080 --to HOST:PORT`",
		strings.Join(defaultFiles(), ", no "), configEnv)
}
