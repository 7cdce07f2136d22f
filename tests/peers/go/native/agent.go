// An agent of tunnelstack in Go, written from docs/protocols/native.md alone.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"
)

const (
	header  = "\x13/multistream/1.0.0\n"
	control = "/tunnelstack/control/1.0.0"
	dial    = "/tunnelstack/dial/1.0.0"
	web     = "/tunnelstack/http/1.0.0"
	tcp     = "/tunnelstack/tcp/1.0.0"

	line      = 16384 // octets of a JSON line, without its line feed
	frame     = 65536 // octets of a DATA frame: yamux makes one of each write
	agreement = 30 * time.Second
)

type object = map[string]any

func token(name string) string { return string(rune(len(name)+1)) + name + "\n" } // names below 127 octets

// carrier is a WebSocket as the octets that yamux wants.
type carrier struct {
	*websocket.Conn
	message io.Reader
}

func (c *carrier) Read(into []byte) (int, error) {
	for {
		if c.message == nil {
			kind, message, err := c.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("the edge sent text")
			}
			c.message = message
		}
		n, err := c.message.Read(into)
		if err == io.EOF {
			c.message = nil
			if n == 0 {
				continue
			}
			err = nil
		}
		return n, err
	}
}

func (c *carrier) Write(from []byte) (int, error) {
	return len(from), c.WriteMessage(websocket.BinaryMessage, from)
}

// agent is one session with an edge.
type agent struct {
	session *yamux.Session
	control net.Conn
	mutex   sync.Mutex
	last    int
	answers map[int]chan object
	targets map[string]string // local servers, by kind and name
	events  chan object
}

func connect(edge, bearer, instance string) (*agent, object, error) {
	url := "ws" + strings.TrimPrefix(strings.TrimSuffix(edge, "/"), "http") + "/_tunnel/1"
	dialer := websocket.Dialer{Subprotocols: []string{"tunnelstack.v1"}, HandshakeTimeout: 10 * time.Second}
	conn, answer, err := dialer.Dial(url, http.Header{"Authorization": {"Bearer " + bearer}})
	if err != nil {
		if answer != nil {
			return nil, nil, fmt.Errorf("the edge answered %s", answer.Status)
		}
		return nil, nil, err
	}
	if conn.Subprotocol() != "tunnelstack.v1" {
		return nil, nil, errors.New("this is no edge")
	}
	settings := yamux.DefaultConfig()
	settings.LogOutput = io.Discard
	settings.StreamCloseTimeout = 0 // a stream may stay half-closed
	session, err := yamux.Server(&carrier{Conn: conn}, settings)
	if err != nil {
		return nil, nil, err
	}
	a := &agent{session: session, answers: map[int]chan object{}, targets: map[string]string{}, events: make(chan object, 64)}
	go a.accept()
	stream, lines, err := a.open(control, object{"version": "example/1", "instance": instance})
	if err != nil {
		return nil, nil, err
	}
	a.control = stream
	var welcome object
	if err := next(lines, &welcome); err != nil {
		return nil, nil, err
	}
	if welcome["event"] != "welcome" {
		return nil, nil, fmt.Errorf("%v: %v", welcome["code"], welcome["reason"])
	}
	go a.listen(lines)
	return a, welcome, nil
}

// open opens a stream, and reads as far as the name that comes back.
func (a *agent) open(name string, parameters object) (net.Conn, *bufio.Reader, error) {
	stream, err := a.session.Open()
	if err != nil {
		return nil, nil, err
	}
	about, err := json.Marshal(parameters)
	if err != nil {
		return nil, nil, err
	}
	if _, err = stream.Write([]byte(header + token(name) + string(about) + "\n")); err != nil {
		return nil, nil, err
	}
	stream.SetDeadline(time.Now().Add(agreement))
	defer stream.SetDeadline(time.Time{})
	reader := bufio.NewReaderSize(stream, line+1)
	for _, expected := range []string{header, token(name)} {
		if err = expect(reader, expected); err != nil {
			stream.Close()
			return nil, nil, err
		}
	}
	return stream, reader, nil
}

func expect(reader io.Reader, expected string) error {
	said := make([]byte, len(expected))
	if _, err := io.ReadFull(reader, said); err != nil {
		return err
	}
	if string(said) != expected {
		return fmt.Errorf("expected %q, got %q", expected, said)
	}
	return nil
}

func next(lines *bufio.Reader, into any) error {
	said, err := lines.ReadSlice('\n') // the reader holds one line at most
	if err != nil {
		return err
	}
	return json.Unmarshal(said, into)
}

// listen hears answers and events until the control stream ends.
func (a *agent) listen(lines *bufio.Reader) {
	for {
		var said object
		if err := next(lines, &said); err != nil {
			a.control.Close()
			return
		}
		number, isAnswer := said["id"].(float64)
		a.mutex.Lock()
		answer := a.answers[int(number)]
		delete(a.answers, int(number))
		a.mutex.Unlock()
		if isAnswer && answer != nil {
			answer <- said
		} else if !isAnswer {
			a.events <- said
		}
	}
}

// ask makes a request on the control stream.
func (a *agent) ask(what string, service any) (object, error) {
	answer := make(chan object, 1)
	a.mutex.Lock()
	a.last++
	a.answers[a.last] = answer
	request := object{"id": a.last, "do": what}
	if service != nil {
		request["service"] = service
	}
	line, err := json.Marshal(request)
	if err == nil {
		_, err = a.control.Write(append(line, '\n'))
	}
	a.mutex.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case said := <-answer:
		if said["ok"] != true {
			return nil, fmt.Errorf("%v: %v", said["code"], said["reason"])
		}
		return said, nil
	case <-time.After(30 * time.Second):
		return nil, errors.New("the edge does not answer")
	}
}

// accept takes the streams that the edge opens.
func (a *agent) accept() {
	for {
		stream, err := a.session.Accept()
		if err != nil {
			return
		}
		go a.serve(stream)
	}
}

func (a *agent) serve(stream net.Conn) {
	defer stream.Close()
	stream.SetDeadline(time.Now().Add(agreement))
	reader := bufio.NewReaderSize(stream, line+1)
	if expect(reader, header) != nil {
		return
	}
	proposed, err := reader.ReadString('\n')
	if err != nil || (proposed != token(web) && proposed != token(tcp)) {
		return
	}
	if _, err = stream.Write([]byte(header + proposed)); err != nil { // the line may not come before that
		return
	}
	var about struct{ Service string }
	if next(reader, &about) != nil {
		return
	}
	stream.SetDeadline(time.Time{})
	a.mutex.Lock()
	target := a.targets["tcp/"+about.Service]
	if proposed == token(web) {
		target = a.targets["http/"+about.Service]
	}
	a.mutex.Unlock()
	local, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer local.Close()
	done := make(chan bool)
	go func() {
		io.Copy(local, reader)
		local.(*net.TCPConn).CloseWrite()
		close(done)
	}()
	io.Copy(stream, local)
	stream.Close() // ends our direction only
	<-done
}

// dial sends octets to somebody else's service, and gives what comes back until its end.
func (a *agent) dial(to, purpose string, data []byte) ([]byte, error) {
	stream, reader, err := a.open(dial, object{"to": to, "purpose": purpose})
	if err != nil {
		return nil, err
	}
	var answer struct {
		OK     bool
		Reason string
	}
	if err := next(reader, &answer); err != nil {
		return nil, err
	}
	if !answer.OK {
		return nil, errors.New(answer.Reason)
	}
	for len(data) > 0 {
		n, err := stream.Write(data[:min(len(data), frame)])
		if err != nil {
			return nil, err
		}
		data = data[n:]
	}
	stream.Close()
	return io.ReadAll(reader)
}
