package main

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// monotonicMicros is CLOCK_MONOTONIC in microseconds, which systemd wants to see with
// RELOADING=1 (sd_notify(3)).
func monotonicMicros() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return strconv.FormatInt(ts.Nano()/1000, 10)
}
