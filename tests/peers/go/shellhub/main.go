// Program peer is one end of ShellHub, driven by a test: a server, agents, or both.
//
// What speaks on the wire is genuine: shellhub's root module (pkg/revdial, pkg/wsconnadapter, pkg/api/client), hashicorp/yamux,
// go-multistream, gorilla/websocket, echo and x/crypto/ssh. What lies in shellhub's nested modules, which no module proxy has,
// is told again here after its description: the manager of connections and its dialler (server.go, dialto.go), the tunnel and
// its handlers (agent.go, handle.go).
//
// A command is one line of JSON on stdin, {"id": 1, "do": "dial", ...}; its answer is one line on stdout with the same id,
// {"id": 1, "ok": true, ...} or {"id": 1, "ok": false, "kind": "Timeout", "error": "..."}. Commands run side by side: who
// needs an order waits for the answer. The program ends when stdin does, and in any case after -life.
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

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"
	multistream "github.com/multiformats/go-multistream"
	log "github.com/sirupsen/logrus"
	"golang.org/x/crypto/ssh"
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
	"serve":        with(serve),
	"set":          with(set),
	"devices":      with(devices),
	"await-device": with(awaitDevice),
	"events":       with(events),
	"await-event":  with(awaitEvent),
	"kick":         with(kick),
	"dial":         with(dialTo),
	"authorize":    with(authorize),
	"auth-key":     with(authKey),
	"agent":        with(startAgent),
	"agent-state":  with(agentState),
	"agent-close":  with(closeAgent),
	"read":         with(read),
	"write":        with(write),
	"close":        with(closeConn),
	"send":         with(send),
	"receive":      with(receive),
	"ssh":          with(runSSH),
	"echo":         with(startEcho),
	"fleet":        with(fleet),
}

// peer keeps what commands made, by the numbers it gave them.
type peer struct {
	mutex  sync.Mutex
	out    *json.Encoder
	next   int
	server *server
	conns  map[int]net.Conn
	agents map[int]*agent
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

func (p *peer) keepConn(conn net.Conn) int {
	return p.number(func(number int) { p.conns[number] = conn })
}

func (p *peer) conn(number int) (net.Conn, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if conn, ok := p.conns[number]; ok {
		return conn, nil
	}
	return nil, fmt.Errorf("there is no connection %d", number)
}

func (p *peer) agent(number int) (*agent, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if a, ok := p.agents[number]; ok {
		return a, nil
	}
	return nil, fmt.Errorf("there is no agent %d", number)
}

var (
	errNoConnection    = errors.New("no connection")
	errInvalidArgument = errors.New("invalid argument")
	errNoServer        = errors.New("no server was started")
)

// refused is what the far side said no with, in its protocol's own way.
type refused struct {
	reason string
}

func (r refused) Error() string {
	return r.reason
}

// kind names an error, so that no test has to read a message.
func kind(err error) string {
	var unsupported multistream.ErrNotSupported[string]
	var said refused
	var wrong *json.UnmarshalTypeError
	var timeout net.Error
	switch {
	case errors.As(err, &unsupported):
		return "NotSupported"
	case errors.As(err, &said):
		return "Refused"
	case errors.As(err, &wrong):
		return "WrongType"
	}
	for name, known := range map[string]error{
		"EOF":              io.EOF,
		"UnexpectedEOF":    io.ErrUnexpectedEOF,
		"Canceled":         context.Canceled,
		"Timeout":          context.DeadlineExceeded,
		"NoConnection":     errNoConnection,
		"InvalidArgument":  errInvalidArgument,
		"NoServer":         errNoServer,
		"BadHandshake":     websocket.ErrBadHandshake,
		"ConnectionReset":  yamux.ErrConnectionReset,
		"StreamClosed":     yamux.ErrStreamClosed,
		"SessionShutdown":  yamux.ErrSessionShutdown,
		"IncorrectVersion": multistream.ErrIncorrectVersion,
		"Closed":           net.ErrClosed,
		"NoAuth":           ssh.ErrNoAuth,
	} {
		if errors.Is(err, known) {
			return name
		}
	}
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "Timeout"
	}
	if websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		return "Gone"
	}
	return "Other"
}

type waiting struct {
	Within float64 `json:"within"` // seconds; 10 where it is left out
}

func seconds(value float64) time.Duration {
	return time.Duration(value * float64(time.Second))
}

func (w waiting) duration() time.Duration {
	if w.Within == 0 {
		return 10 * time.Second
	}
	return seconds(w.Within)
}

// until asks again and again whether it is so.
func (w waiting) until(so func() bool) error {
	for end := time.Now().Add(w.duration()); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return context.DeadlineExceeded
		}
	}
	return nil
}

func main() {
	life := flag.Duration("life", 300*time.Second, "the program ends after this long, whatever happens")
	flag.Parse()
	time.AfterFunc(*life, func() {
		fmt.Fprintln(os.Stderr, "peer: lived for", *life)
		os.Exit(3)
	})
	log.SetLevel(log.PanicLevel)
	p := &peer{out: json.NewEncoder(os.Stdout), conns: map[int]net.Conn{}, agents: map[int]*agent{}}
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
