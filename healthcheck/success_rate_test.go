package healthcheck

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOutlierSuccessRate(t *testing.T) {
	// rates are the servers' successes in 100 requests.
	f := func(rates []int, out string, change func(*OutlierConfig)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			t.Helper()
			w := startOutlier(t, len(rates), func(c *OutlierConfig) {
				c.ConsecutiveFailures, c.SuccessRate.Enabled = 0, true
				change(c)
			})
			for i, good := range rates {
				w.report(i, strings.Repeat("o", good)+strings.Repeat("5", 100-good))
			}
			w.wantOut("")
			sleep(10 * time.Second)
			w.wantOut(out)
		})
	}
	none := func(*OutlierConfig) {}
	f([]int{100, 100, 100, 100, 60}, "e", none)
	f([]int{60, 60, 60, 60, 60}, "", none)     // all alike
	f([]int{100, 100, 100, 60}, "", none)      // too few to compare
	f([]int{100, 100, 100, 100, 96}, "", none) // good enough
	f([]int{100, 100, 100, 100, 96}, "e", func(c *OutlierConfig) { c.SuccessRate.GoodPercent = 100 })
	f([]int{100, 100, 100, 100, 60}, "", func(c *OutlierConfig) { c.SuccessRate.MinRequests = 101 })
	f([]int{100, 100, 100, 100, 100, 100, 100, 100, 20, 20}, "ij", none)
	f([]int{100, 100, 100, 100, 60}, "", func(c *OutlierConfig) {
		c.SuccessRate.StdevFactor = 1.9999
		c.MaxEjectedPercent = 0
		c.SuccessRate.MinServers = 6
	})
}

// TestOutlierSuccessRateWindows wants each window judged by its own requests.
func TestOutlierSuccessRateWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startOutlier(t, 5, func(c *OutlierConfig) { c.ConsecutiveFailures, c.SuccessRate.Enabled = 0, true })
		for range 2 {
			for i := range w.members {
				w.report(i, strings.Repeat("o", 60))
			}
			w.report(0, strings.Repeat("5", 60)) // 120 requests in this window, the others 60
			sleep(10 * time.Second)
			w.wantOut("")
		}
		for i := range w.members {
			w.report(i, strings.Repeat("o", 100))
		}
		w.report(0, strings.Repeat("5", 50))
		sleep(10 * time.Second)
		w.wantOut("a")
		wantLines(t, w.logs, "server is ejected server=http://a:80 reason=success_rate last_failure=status 503 for=30s ejections=1 "+
			"success_percent=66.66666666666666 mean_percent=93.33333333333333")
	})
}

// TestLeastRate compares the threshold with the formula written down plainly.
func TestLeastRate(t *testing.T) {
	cfg := &SuccessRateConfig{}
	cfg.SetDefaults()
	cfg.GoodPercent = 100
	for range 1000 {
		list := make([]rated, 5+rand.IntN(20))
		sum, squares := 0.0, 0.0
		for i := range list {
			list[i].rate = rand.Float64()
			sum += list[i].rate
			squares += list[i].rate * list[i].rate
		}
		n := float64(len(list))
		want := sum/n - 1.9*math.Sqrt(squares/n-sum/n*sum/n)
		if got, _ := leastRate(list, cfg); math.Abs(got-want) > 1e-6 {
			t.Fatalf("got %g; want %g for %v", got, want, list)
		}
	}
}
