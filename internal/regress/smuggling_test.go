package regress

import (
	"fmt"
	"testing"
)

const smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

func post(fields, body string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body
}

func TestSmugglingCLTE(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, ""), "")
	refuses(t, d, o, post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", smuggled))
	for _, field := range []string{
		"Transfer-Encoding : chunked", "Transfer-Encoding: \vchunked", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked, identity",
		"Transfer-Encoding: identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding:\r\n chunked", "Transfer-Encoding: chunked, chunked",
	} {
		refuses(t, d, o, post("Content-Length: 6\r\n"+field+"\r\n", smuggled), post(field+"\r\n", smuggled))
	}
	serves(t, d)
}

func TestOddContentLength(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, ""), "")
	for _, value := range []string{"", "+6", "-6", "0x6", "6, 6", "6, 7", "6 6", "6.0", "18446744073709551622", "99999999999999999999999"} {
		refuses(t, d, o, post("Content-Length: "+value+"\r\n", smuggled))
	}
	refuses(t, d, o, post("Content-Length: 6\r\nContent-Length: 7\r\n", smuggled), post("Content-Length: 6\r\nContent-Length: 6\r\n", smuggled))
	serves(t, d)
}

func TestInvalidHeaderFields(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, ""), "")
	for _, field := range []string{": x", "A B: x", "A\x00: x", "A: x\x00y", "A: x\ry", "A: x\r\n folded", "A : x", "no colon", "A: x\x01"} {
		refuses(t, d, o, fmt.Sprintf("GET / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", field))
	}
	serves(t, d)
}
