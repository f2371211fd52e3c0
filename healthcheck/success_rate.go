package healthcheck

import (
	"math"

	"drover/backend"

	"go.uber.org/zap"
)

// rated is a server with its success rate in one window, from 0 to 1.
type rated struct {
	member *backend.Member
	rate   float64
}

// compare ends a window and ejects the servers whose success rate is far below the
// others'.
func (o *Outlier) compare() (changed bool) {
	view := o.view.Load()
	var list []rated
	for _, m := range view.members {
		counts := view.records[m.Live].window.Swap(0)
		good, all := counts>>32, counts&math.MaxUint32
		if all > 0 && all >= uint64(o.cfg.SuccessRate.MinRequests) { //nolint:gosec // validated to be above 0.
			list = append(list, rated{m, float64(good) / float64(all)})
		}
	}
	least, mean := leastRate(list, &o.cfg.SuccessRate)
	room := o.room(view)
	for _, x := range list {
		if x.rate < least && o.eject(x.member, view.records[x.member.Live], reasonRate, &room,
			zap.Float64("success_percent", 100*x.rate), zap.Float64("mean_percent", 100*mean)) {
			changed = true
		}
	}
	return changed
}

// leastRate is the success rate under which a server is an outlier: the mean less
// StdevFactor standard deviations (Envoy, outlier detection, success rate), and no more
// than GoodPercent. It is 0 where there are too few servers to compare.
func leastRate(list []rated, cfg *SuccessRateConfig) (least, mean float64) {
	if len(list) < cfg.MinServers {
		return 0, 0
	}
	n := float64(len(list))
	for _, x := range list {
		mean += x.rate / n
	}
	variance := 0.0
	for _, x := range list {
		variance += (x.rate - mean) * (x.rate - mean) / n
	}
	return min(mean-cfg.StdevFactor*math.Sqrt(variance), float64(cfg.GoodPercent)/100), mean
}
