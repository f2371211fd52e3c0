package healthcheck

import (
	"fmt"
	"strconv"
	"strings"
)

// statusSet is a set of HTTP statuses.
type statusSet [maxStatus + 1]bool

// Status codes have three digits (RFC 9110, section 15).
const (
	minStatus = 100
	maxStatus = 999
)

// has reports whether a status is in the set.
func (s *statusSet) has(status int) bool { return status > 0 && status < len(s) && s[status] }

// parseStatuses reads a list of "304" and "200-299".
func parseStatuses(list []string) (*statusSet, error) {
	set := &statusSet{}
	for _, text := range list {
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			last = first
		}
		from, okFrom := parseStatus(first)
		to, okTo := parseStatus(last)
		if !okFrom || !okTo || from > to {
			return nil, fmt.Errorf("got %q; want a status such as 304 or a range such as 200-299", text)
		}
		for status := from; status <= to; status++ {
			set[status] = true
		}
	}
	return set, nil
}

// parseStatus takes three digits and nothing else: Atoi alone would pass "+20".
func parseStatus(text string) (int, bool) {
	text = strings.Trim(text, " ")
	if len(text) != 3 || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= minStatus
}
