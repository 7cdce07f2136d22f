// Program bench is the Go twin of every benchmark: hashicorp/yamux, gorilla/websocket, go-multistream and net/http in their
// default configurations, and the origin and the load generator that all sides share.
//
// A part that listens prints {"port": N} and runs until its stdin ends; a part that works prints one line of JSON and exits.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

const life = 600 * time.Second // no part outlives this

var parts = map[string]func(arguments []string) error{
	"server": serverPart,
	"client": clientPart,
	"edge":   edgePart,
	"agent":  agentPart,
	"origin": originPart,
	"load":   loadPart,
}

func say(what map[string]any) {
	line, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

// processorTime is how many seconds of processor time, user and system, this process has used.
func processorTime() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

// untilStdinEnds is how a part that listens is told to go.
func untilStdinEnds() {
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// options reads the command line of a part.
func options(part string, arguments []string, declare func(*flag.FlagSet)) {
	flags := flag.NewFlagSet(part, flag.ExitOnError)
	flags.BoolVar(&tuned, "tuned", false, "join writes, and keep large buffers")
	declare(flags)
	_ = flags.Parse(arguments)
}

func main() {
	if len(os.Args) < 2 || parts[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: bench server|client|edge|agent|origin|load [options]")
		os.Exit(2)
	}
	time.AfterFunc(life, func() {
		fmt.Fprintln(os.Stderr, "bench: lived for", life)
		os.Exit(3)
	})
	if err := parts[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
