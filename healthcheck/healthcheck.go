// Package healthcheck finds out which servers of an upstream can be used. A Monitor
// probes them (active checks); an Outlier watches how they answer real requests
// (passive checks). Both write what they find into backend.Live, where the balancer
// reads it, and neither knows of the other.
//
// A Checker speaks one protocol and knows nothing of thresholds; the Monitor counts,
// waits and decides and knows nothing of protocols. Slow start is the balancer's.
package healthcheck
