package proxy

import "bytes"

// PathOptions are what a listener does about paths that servers read in more than one
// way. The zero value lets them pass.
type PathOptions struct {
	MergeSlashes       bool
	RejectEncodedSlash bool
	RejectDotSegments  bool
}

// tidyPath applies the listener's rules before anything looks at the path, so that
// router, rules and server see the same one. It reports whether the path may pass.
func (rq *request) tidyPath(o PathOptions) bool {
	if o == (PathOptions{}) {
		return true
	}
	target := &rq.ex.Request.Target
	path, query := splitTarget(*target)
	if o.RejectEncodedSlash && hidesSlash(path) || o.RejectDotSegments && hasDotSegment(path) {
		return false
	}
	if o.MergeSlashes && bytes.Contains(path, []byte("//")) {
		rq.merged = append(appendMerged(rq.merged[:0], path), query...)
		*target = rq.merged
	}
	return true
}

func appendMerged(dst, path []byte) []byte {
	for i, c := range path {
		if c != '/' || i == 0 || path[i-1] != '/' {
			dst = append(dst, c)
		}
	}
	return dst
}

// readPathByte gives what the next byte of a path may mean: "/" for all that some
// servers take for one, "." for a dot however it is written. It says how long it is.
func readPathByte(path []byte) (c byte, size int) {
	if path[0] == '\\' {
		return '/', 1
	}
	if path[0] == '%' && len(path) >= 3 {
		switch string([]byte{path[1], path[2] | 0x20}) {
		case "2e":
			return '.', 3
		case "2f", "5c":
			return '/', 3
		}
	}
	return path[0], 1
}

// hidesSlash reports whether a path has a slash that is not written as one.
func hidesSlash(path []byte) bool {
	for len(path) > 0 {
		c, size := readPathByte(path)
		if c == '/' && path[0] != '/' {
			return true
		}
		path = path[size:]
	}
	return false
}

// hasDotSegment reports whether a path has a segment "." or "..", for any server: for
// some, ";" ends the name of a segment.
func hasDotSegment(path []byte) bool {
	dots, other, ended := 0, false, false
	climbs := func() bool { return !other && (dots == 1 || dots == 2) }
	for len(path) > 0 {
		c, size := readPathByte(path)
		path = path[size:]
		switch {
		case c == '/':
			if climbs() {
				return true
			}
			dots, other, ended = 0, false, false
		case ended:
		case c == ';':
			ended = true
		case c == '.':
			dots++
		default:
			other = true
		}
	}
	return climbs()
}
