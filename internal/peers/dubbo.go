package peers

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"drover/internal/zktest"
)

// Dubbo registers providers of the interface path, /dubbo/NAME, with Apache dubbo-js:
// one that speaks Dubbo's own protocol from the start on, and those that are
// registered, which speak Triple.
func Dubbo(t testing.TB, address, path string) *Writer {
	t.Helper()
	node, npm := need(t, "node", "nodejs"), need(t, "npm", "npm")
	need(t, "make", "make")
	need(t, "g++", "g++")
	modules, err := install(npm)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	unpack(t, "dubbo", dir)
	cmd := exec.Command(node, filepath.Join(dir, "writer.js"), address, path)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	return start(t, cmd)
}

// install gives the folder of dubbo-js and all it needs, in the versions of the lock
// file. (dubbo-js uses hessian.js and koa-compose without listing them.) It is made once, in the user's cache, since its ZooKeeper client is C and
// takes a while to build.
func install(npm string) (modules string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot install dubbo-js: %w", err)
	}
	lock, err := programs.ReadFile("testdata/dubbo/package-lock.json")
	if err != nil {
		return "", fmt.Errorf("cannot install dubbo-js: %w", err)
	}
	sum := sha256.Sum256(lock)
	home := filepath.Join(cache, "drover", "dubbo-js-"+hex.EncodeToString(sum[:6]))
	modules = filepath.Join(home, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o750); err != nil {
		return "", fmt.Errorf("cannot install dubbo-js: %w", err)
	}
	building, err := os.MkdirTemp(filepath.Dir(home), "building-")
	if err != nil {
		return "", fmt.Errorf("cannot install dubbo-js: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(building)) }()
	if err := build(npm, building); err != nil {
		return "", err
	}
	// Whole or not at all. Another test may have been quicker, with the same result.
	if err := os.Rename(building, home); err != nil {
		if _, statErr := os.Stat(modules); statErr != nil {
			return "", fmt.Errorf("cannot install dubbo-js: %w", err)
		}
	}
	return modules, nil
}

func build(npm, dir string) error {
	if err := copyFiles("testdata/dubbo", dir); err != nil {
		return fmt.Errorf("cannot install dubbo-js: %w", err)
	}
	for _, args := range [][]string{
		{"ci", "--ignore-scripts", "--no-audit", "--no-fund"},
		{"rebuild", "zookeeper", "--foreground-scripts"}, // the only package with something to build
	} {
		cmd := exec.Command(npm, args...)
		cmd.Dir = dir
		cmd.Env = os.Environ()
		if _, err := os.Stat("/usr/include/node/node.h"); err == nil {
			cmd.Env = append(cmd.Env, "npm_config_nodedir=/usr") // Debian's headers, in place of a download
		}
		output := &zktest.Tail{}
		cmd.Stdout, cmd.Stderr = output, output
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("cannot install dubbo-js: npm %s: %w: %s", args[0], err, output)
		}
	}
	return nil
}
