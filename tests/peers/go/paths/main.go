// A server of Go's standard library that answers with the paths under which its handlers look for a request's resource.
//
// It prints "port N" and serves until its standard input ends.
package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
)

func answer(w http.ResponseWriter, r *http.Request) {
	files := path.Clean("/" + r.URL.Path)
	fmt.Fprintf(w, "%s %s", hex.EncodeToString([]byte(r.URL.Path)), hex.EncodeToString([]byte(files)))
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	go http.Serve(listener, http.HandlerFunc(answer))
	io.Copy(io.Discard, os.Stdin)
}
