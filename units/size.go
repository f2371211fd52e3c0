// Package units holds the quantities that configuration spells with a unit.
package units

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes. In text it always carries a unit: B, KiB, MiB,
// GiB (powers of 1024) or kB, MB, GB (powers of 1000), as in "32KiB". Zero
// needs no unit.
type Size int64

// Binary multiples for defaults written in code.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

// sizeUnits is ordered so that the longest suffix is tried first.
var sizeUnits = []struct {
	suffix string
	factor Size
}{
	{"KiB", KiB},
	{"MiB", MiB},
	{"GiB", GiB},
	{"kB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"B", 1},
}

// ParseSize reads "32KiB". It refuses a bare number, which could mean bytes or
// kilobytes to its writer, one with a sign, and one above 2^62.
func ParseSize(text string) (Size, error) {
	if text == "0" {
		return 0, nil
	}
	for _, unit := range sizeUnits {
		digits, ok := strings.CutSuffix(text, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63) // takes no sign
		if err != nil || Size(n) > (1<<62)/unit.factor {               //nolint:gosec // 63 bits.
			break
		}
		return Size(n) * unit.factor, nil //nolint:gosec // see above.
	}
	return 0, fmt.Errorf("cannot parse size %q; want a number with a unit such as 512B, 32KiB, 10MB", text)
}

// String gives the shortest exact spelling, which ParseSize reads back.
func (s Size) String() string {
	for _, unit := range []struct {
		suffix string
		factor Size
	}{{"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}} {
		if s != 0 && s%unit.factor == 0 {
			return strconv.FormatInt(int64(s/unit.factor), 10) + unit.suffix
		}
	}
	if s == 0 {
		return "0"
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	parsed, err := ParseSize(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
