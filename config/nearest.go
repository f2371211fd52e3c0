package config

import (
	"strconv"
	"strings"
)

// nearest gives the candidate that is the most like a misspelt word, "" when none is
// alike enough to be what its writer meant.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, candidate := range candidates {
		if d := editDistance(normal(word), normal(candidate)); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// normal folds the spellings that are one key in other tools' habits: headerTimeout,
// header-timeout and header_timeout.
func normal(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' {
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// editDistance counts the insertions, deletions, substitutions and swaps of
// neighbours that make b of a (optimal string alignment). It works on bytes: keys are
// ASCII, and a foreign letter only makes a word less alike. Long words cost too much
// and are never alike.
func editDistance(a, b string) int {
	const tooLong = 64
	if len(a) > tooLong || len(b) > tooLong {
		return tooLong
	}
	var rows [3][tooLong + 1]int // two rows back, one row back, this row
	for j := range len(b) + 1 {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		rows[2][0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[1][j]+1, rows[2][j-1]+1, rows[1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[0][j-2]+1)
			}
			rows[2][j] = d
		}
		rows[0], rows[1] = rows[1], rows[2]
	}
	return rows[1][len(b)]
}

// didYouMean ends an error about an unknown word: the nearest known one, or all of
// them.
func didYouMean(word string, known []string) string {
	if near := nearest(word, known); near != "" {
		return "want " + strconv.Quote(near)
	}
	switch len(known) {
	case 0:
		return "want none"
	case 1:
		return "want " + strconv.Quote(known[0])
	default:
		return "want one of " + strings.Join(known, ", ")
	}
}
