package exchange

import "bytes"

// AddVary names a request field in Vary (RFC 9110, section 12.5.5), unless it is there
// already, or "*" is.
func (h *Header) AddVary(name string) {
	for i := range *h {
		if !EqualFold((*h)[i].Name, "Vary") {
			continue
		}
		for element := range bytes.SplitSeq((*h)[i].Value, []byte(",")) {
			element = bytes.Trim(element, " \t")
			if EqualFold(element, name) || string(element) == "*" {
				return
			}
		}
	}
	h.Add("Vary", name)
}
