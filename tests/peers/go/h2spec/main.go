// A run of h2spec against a server on loopback.
//
// usage: h2spec PORT REPORT [SECTION ...]
//
// REPORT is the file for the results, as JUnit writes them.  H2SPEC_HOST is another name of loopback for the requests, and
// H2SPEC_TLS=1 connects by TLS and ALPN, without verification.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
)

func main() {
	port, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	host, secure := "127.0.0.1", os.Getenv("H2SPEC_TLS") == "1"
	if name := os.Getenv("H2SPEC_HOST"); name != "" {
		host = name
	}
	passed, err := h2spec.Run(&config.Config{
		Host: host, Port: port, TLS: secure, Insecure: secure, Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000,
		JUnitReport: os.Args[2], Strict: true, Sections: os.Args[3:],
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !passed {
		os.Exit(1)
	}
}
