// peer_io_go.go TEXT - net/http, as it is by default, on a free port of 127.0.0.1, which it prints
// first: answers each request with the text. `version` prints what compiled it.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
)

func main() {
	text := ""
	if len(os.Args) > 1 {
		text = os.Args[1]
	}
	if text == "version" {
		fmt.Println(runtime.Version())
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		io.WriteString(answer, text)
	})))
}
