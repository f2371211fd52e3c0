package units

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		text string
		want Size
		back string // as String spells it
	}{
		{"0", 0, "0"}, {"0B", 0, "0"}, {"0GiB", 0, "0"},
		{"1B", 1, "1B"}, {"512B", 512, "512B"}, {"1024B", KiB, "1KiB"}, {"1025B", KiB + 1, "1025B"},
		{"32KiB", 32 * KiB, "32KiB"}, {"1024KiB", MiB, "1MiB"}, {"3MiB", 3 * MiB, "3MiB"}, {"1024MiB", GiB, "1GiB"},
		{"1kB", 1000, "1000B"}, {"10MB", 10e6, "10000000B"}, {"1GB", 1e9, "1000000000B"}, {"128kB", 128_000, "125KiB"},
		{"32 KiB", 32 * KiB, "32KiB"}, {"007B", 7, "7B"},
		{"4294967296GiB", 1 << 62, "4294967296GiB"}, {"4611686018427387904B", 1 << 62, "4294967296GiB"},
	} {
		got, err := ParseSize(c.text)
		if err != nil || got != c.want || got.String() != c.back {
			t.Errorf("ParseSize(%q) = %d (%s), %v; want %d (%s)", c.text, got, got, err, c.want, c.back)
		}
	}
}

func TestParseSizeRefuses(t *testing.T) {
	for _, text := range []string{
		"", " ", "1", "1024", "00", "B", "KiB", "1kib", "1KIB", "1Kib", "1K", "1k", "1KB", "1TiB", "1 024B",
		"-1B", "+1B", "-0B", "1.5KiB", "1e3B", "0x10B", "1_000B", "1KiB ", "1KiBB", "1B1B", "1\x00B", "١B", "NaNB",
		"4294967297GiB", "4611686018427387905B", "9223372036854775808B", "99999999999999999999GiB",
	} {
		size := Size(7)
		err := size.UnmarshalText([]byte(text))
		if err == nil || !strings.Contains(err.Error(), "want a number with a unit") {
			t.Errorf("%q gives %d, %v; want an error that says what is wanted", text, size, err)
		}
		if size != 7 {
			t.Errorf("%q was refused and yet left %d", text, size)
		}
	}
}

// TestSizeRoundTrip spells random sizes of every magnitude and reads them back.
func TestSizeRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		want := Size(r.Int64N(1<<62+1) >> r.IntN(62))
		if r.IntN(2) == 0 {
			want &^= KiB<<(10*r.IntN(3)) - 1 // a whole number of some unit
		}
		text, err := want.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got Size
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Fatalf("%d is spelled %q, which reads as %d, %v", want, text, got, err)
		}
	}
}
