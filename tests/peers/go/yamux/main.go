// Program peer is a genuine Go end of a tunnel: hashicorp/yamux, go-multistream and gorilla/websocket as they are, driven
// by a test.
//
// A command is one line of JSON on stdin, {"id": 1, "do": "open", ...}; its answer is one line on stdout with the same id,
// {"id": 1, "ok": true, ...} or {"id": 1, "ok": false, "kind": "Timeout", "error": "..."}. Commands run side by side: who
// needs an order waits for the answer. The program ends when stdin does, and in any case after -life.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	multistream "github.com/multiformats/go-multistream"
)

const longestLine = 16 << 20 // octets of one command

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
	"dial":          with(dial),
	"listen":        with(listen),
	"arrived":       with(arrived),
	"garbage":       with(garbage),
	"ping":          with(ping),
	"goaway":        with(goAway),
	"close-session": with(closeSession),
	"lost":          with(lost),
	"stats":         with(stats),
	"open":          with(open),
	"accept":        with(accept),
	"read":          with(read),
	"write":         with(write),
	"send":          with(send),
	"receive":       with(receive),
	"close":         with(closeStream),
	"negotiate":     with(negotiate),
	"respond":       with(respond),
	"serve":         with(serve),
	"handled":       with(handled),
	"drive":         with(drive),
	"message":       with(message),
	"next-message":  with(nextMessage),
	"drop":          with(drop),
}

// peer keeps what commands made, by the numbers it gave them.
type peer struct {
	mutex    sync.Mutex
	out      *json.Encoder
	next     int
	sessions map[int]*session
	streams  map[int]io.ReadWriteCloser
	arrivals chan int
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

func (p *peer) keepStream(stream io.ReadWriteCloser) reply {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.next++
	p.streams[p.next] = stream
	said := reply{"stream": p.next}
	if muxed, ok := stream.(*yamux.Stream); ok {
		said["stream_id"] = muxed.StreamID()
	}
	return said
}

func (p *peer) stream(number int) (io.ReadWriteCloser, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if stream, ok := p.streams[number]; ok {
		return stream, nil
	}
	return nil, fmt.Errorf("there is no stream %d", number)
}

func (p *peer) keepSession(s *session) int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.next++
	p.sessions[p.next] = s
	return p.next
}

func (p *peer) session(number int) (*session, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if s, ok := p.sessions[number]; ok {
		return s, nil
	}
	return nil, fmt.Errorf("there is no session %d", number)
}

// kind names an error, so that no test has to read a message.
func kind(err error) string {
	var unsupported multistream.ErrNotSupported[string]
	var unrecognized multistream.ErrUnrecognizedResponse[string]
	if errors.As(err, &unsupported) {
		return "NotSupported"
	}
	if errors.As(err, &unrecognized) {
		return "UnrecognizedResponse"
	}
	for name, known := range map[string]error{
		"EOF":                    io.EOF,
		"UnexpectedEOF":          io.ErrUnexpectedEOF,
		"Timeout":                yamux.ErrTimeout,
		"ConnectionReset":        yamux.ErrConnectionReset,
		"StreamClosed":           yamux.ErrStreamClosed,
		"SessionShutdown":        yamux.ErrSessionShutdown,
		"RemoteGoAway":           yamux.ErrRemoteGoAway,
		"KeepAliveTimeout":       yamux.ErrKeepAliveTimeout,
		"ConnectionWriteTimeout": yamux.ErrConnectionWriteTimeout,
		"TooLarge":               multistream.ErrTooLarge,
		"IncorrectVersion":       multistream.ErrIncorrectVersion,
		"NoProtocols":            multistream.ErrNoProtocols,
	} {
		if errors.Is(err, known) {
			return name
		}
	}
	return "Other"
}

func main() {
	life := flag.Duration("life", 300*time.Second, "the program ends after this long, whatever happens")
	flag.Parse()
	time.AfterFunc(*life, func() {
		fmt.Fprintln(os.Stderr, "peer: lived for", *life)
		os.Exit(3)
	})
	p := &peer{
		out:      json.NewEncoder(os.Stdout),
		sessions: map[int]*session{},
		streams:  map[int]io.ReadWriteCloser{},
		arrivals: make(chan int, 64),
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
