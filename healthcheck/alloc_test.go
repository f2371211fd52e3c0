//go:build !race

package healthcheck

import (
	"testing"

	"drover/backend"

	"go.uber.org/zap"
)

// TestReportAllocs counts for servers that do well and for ones that fail.
func TestReportAllocs(t *testing.T) {
	for _, rates := range []bool{false, true} {
		cfg := &OutlierConfig{}
		cfg.SetDefaults()
		cfg.SuccessRate.Enabled = rates
		o, err := NewOutlier("users", cfg, func() {}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		m := member("a")
		o.Sync([]*backend.Member{m})
		for _, out := range []backend.Outcome{{Status: 200}, {Status: 503}, {Failure: backend.FailureConnect}, {Failure: backend.FailureClient}} {
			if n := testing.AllocsPerRun(1000, func() { o.Report(m, out) }); n != 0 {
				t.Errorf("got %g allocations for %+v; want 0", n, out)
			}
		}
	}
}

// BenchmarkReport measures the request path among 10,000 servers.
func BenchmarkReport(b *testing.B) {
	cfg := &OutlierConfig{}
	cfg.SetDefaults()
	o, err := NewOutlier("users", cfg, func() {}, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	members := make([]*backend.Member, 10_000)
	for i := range members {
		members[i] = member("a")
	}
	o.Sync(members)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			o.Report(members[i%len(members)], backend.Outcome{Status: 200})
		}
	})
}
