// Program peer is one end of koding/tunnel, driven by a test: its server, its clients, local servers, and visitors.
//
// Server and clients are genuine: github.com/koding/tunnel, which has no version but its last commit, on hashicorp/yamux.
//
// A command is one line of JSON on stdin, {"id": 1, "do": "serve", ...}; its answer is one line on stdout with the same id,
// {"id": 1, "ok": true, ...} or {"id": 1, "ok": false, "kind": "Timeout", "error": "..."}. Commands run side by side: a test
// that needs an order waits for the answer. The program ends when stdin does, and in any case after -life.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/koding/tunnel"
)

const longestLine = 1 << 20 // octets of one command

type reply map[string]any

type command func(*peer, json.RawMessage) (reply, error)

// with makes a command of a function that takes the command's own parameters.
func with[P any](run func(*peer, P) (reply, error)) command {
	return func(p *peer, line json.RawMessage) (reply, error) {
		var parameters P
		if err := json.Unmarshal(line, &parameters); err != nil {
			return nil, fmt.Errorf("parameters: %w", err)
		}
		return run(p, parameters)
	}
}

var commands = map[string]command{
	"serve":        with(serve),
	"add-host":     with(addHost),
	"delete-host":  with(deleteHost),
	"add-addr":     with(addAddr),
	"connected":    with(connected),
	"disconnected": with(disconnected),
	"states":       with(states),
	"client":       with(startClient),
	"restart":      with(restartClient),
	"close":        with(closeClient),
	"local-http":   with(localHTTP),
	"local-tcp":    with(localTCP),
	"local-close":  with(closeLocal),
	"get":          with(get),
	"raw":          with(raw),
	"post":         with(post),
	"events":       with(events),
	"websocket":    with(webSocket),
	"tcp":          with(tcp),
}

// peer keeps what commands made, by the numbers it gave them.
type peer struct {
	mutex   sync.Mutex
	out     *json.Encoder
	next    int
	server  *tunnel.Server
	changes map[int]*recorder // of clients; 0 is the server
	clients map[int]*tunnel.Client
	locals  map[int]net.Listener
	events  chan struct{} // a visitor has read an event of a local server
}

func (p *peer) answer(id int, said reply, err error) {
	if said == nil {
		said = reply{}
	}
	said["id"], said["ok"] = id, err == nil
	if err != nil {
		said["kind"], said["error"] = kind(err), err.Error()
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if err := p.out.Encode(said); err != nil {
		os.Exit(1)
	}
}

func (p *peer) number(keep func(number int)) int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.next++
	keep(p.next)
	return p.next
}

func kind(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "Timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "EOF"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "Timeout"
	}
	return "Other"
}

// recorder keeps the changes of state that were sent to its channel.
type recorder struct {
	mutex sync.Mutex
	seen  []string
}

func record() (*recorder, chan *tunnel.ClientStateChange) {
	r, changes := &recorder{}, make(chan *tunnel.ClientStateChange, 1024)
	go func() {
		for change := range changes {
			r.mutex.Lock()
			r.seen = append(r.seen, fmt.Sprintf("%s %s %s", change.Identifier, change.Previous, change.Current))
			r.mutex.Unlock()
		}
	}()
	return r, changes
}

func main() {
	life := flag.Duration("life", 300*time.Second, "the program ends after this long, whatever happens")
	flag.Parse()
	time.AfterFunc(*life, func() {
		fmt.Fprintln(os.Stderr, "peer: lived for", *life)
		os.Exit(3)
	})
	p := &peer{
		out: json.NewEncoder(os.Stdout), changes: map[int]*recorder{}, clients: map[int]*tunnel.Client{},
		locals: map[int]net.Listener{}, events: make(chan struct{}),
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 64<<10), longestLine)
	for lines.Scan() {
		line := append(json.RawMessage(nil), lines.Bytes()...)
		var asked struct {
			ID int    `json:"id"`
			Do string `json:"do"`
		}
		if err := json.Unmarshal(line, &asked); err != nil {
			fmt.Fprintln(os.Stderr, "peer: not a command:", err)
			os.Exit(2)
		}
		run, ok := commands[asked.Do]
		if !ok {
			p.answer(asked.ID, nil, fmt.Errorf("there is no command %q", asked.Do))
			continue
		}
		go func() {
			said, err := run(p, line)
			p.answer(asked.ID, said, err)
		}()
	}
}
