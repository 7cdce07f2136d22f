package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// server is the sandbox proxy: a registry of tunnels by the id of their sandbox.
type server struct {
	module    string
	token     string
	window    uint32
	interval  time.Duration
	mute      bool // control streams are neither accepted nor ended
	listener  net.Listener
	mutex     sync.Mutex
	tunnels   map[string]*tunnel
	documents []string
	arrivals  int
	streams   map[int]*yamux.Stream
	last      int
}

type tunnel struct {
	session *yamux.Session
	carrier *carrier
}

func (t *tunnel) close() {
	t.session.Close()
	t.carrier.Close()
}

func serve(module, token string, window uint32, interval float64, mute bool) (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{
		module: module, token: token, window: window, interval: time.Duration(interval * float64(time.Second)), mute: mute,
		listener: listener, tunnels: map[string]*tunnel{}, streams: map[int]*yamux.Stream{},
	}
	go http.Serve(listener, http.HandlerFunc(s.handle))
	return s, nil
}

func (s *server) handle(w http.ResponseWriter, r *http.Request) {
	id, token := strings.TrimPrefix(r.URL.Path, "/api/tunnel/"), r.URL.Query().Get("token")
	if id == "" || token == "" {
		http.Error(w, "missing parameters", http.StatusBadRequest)
		return
	}
	if token != s.token {
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	socket, err := acceptSocket(s.module, w, r)
	if err != nil {
		return
	}
	c := newCarrier(socket)
	session, err := yamux.Server(c, config(s.window))
	if err != nil {
		c.Close()
		return
	}
	t := &tunnel{session, c}
	s.mutex.Lock()
	former := s.tunnels[id]
	s.tunnels[id] = t
	s.arrivals++
	s.mutex.Unlock()
	if former != nil {
		former.close()
	}
	go s.ping(t)
	if !s.mute {
		go s.accept(t)
	}
	<-session.CloseChan()
	c.Close()
	s.mutex.Lock()
	if s.tunnels[id] == t {
		delete(s.tunnels, id)
	}
	s.mutex.Unlock()
}

// ping sends WebSocket pings, and ends a tunnel that does not answer one in five seconds.
func (s *server) ping(t *tunnel) {
	for {
		select {
		case <-time.After(s.interval):
		case <-t.session.CloseChan():
			return
		}
		ctx, cancel := context.WithTimeout(t.carrier.ctx, 5*time.Second)
		err := t.carrier.socket.ping(ctx)
		cancel()
		if err != nil {
			t.close()
			return
		}
	}
}

func (s *server) accept(t *tunnel) {
	for {
		stream, err := t.session.AcceptStream()
		if err != nil {
			return
		}
		go func() {
			defer stream.Close()
			kind, _, err := readHeader(stream)
			if err != nil || kind != streamControl {
				return
			}
			document, err := io.ReadAll(stream)
			if err == nil {
				s.mutex.Lock()
				s.documents = append(s.documents, string(document))
				s.mutex.Unlock()
			}
		}()
	}
}

func (s *server) open(id string) (*yamux.Stream, error) {
	s.mutex.Lock()
	t := s.tunnels[id]
	s.mutex.Unlock()
	if t == nil {
		return nil, errors.New("no tunnel")
	}
	return t.session.OpenStream()
}

// ask sends a request, and reads the head of the response.  The rest is read with read.
func (s *server) ask(c *command) (object, error) {
	stream, err := s.open(c.Sandbox)
	if err != nil {
		return nil, err
	}
	body := c.Data
	if c.Size > 0 {
		body = bytes.Repeat([]byte("x"), c.Size)
	}
	length := len(body)
	if c.BodyLen != nil {
		length = *c.BodyLen
	}
	metadata := any(requestMetadata{c.Method, c.Path, c.Headers, length})
	if c.Metadata != "" {
		metadata = json.RawMessage(c.Metadata)
	}
	if err := writeHeader(stream, streamHTTP, metadata); err != nil {
		return nil, err
	}
	if len(body) > 0 {
		if _, err := stream.Write(body); err != nil {
			return nil, err
		}
	}
	if c.Close {
		stream.Close()
	}
	kind, encoded, err := readHeader(stream)
	if err != nil {
		stream.Close()
		return nil, err
	}
	var response responseMetadata
	if err := json.Unmarshal(encoded, &response); err != nil {
		return nil, err
	}
	return object{"type": int(kind), "status": response.Status, "headers": response.Headers, "stream": s.keep(stream)}, nil
}

func (s *server) keep(stream *yamux.Stream) int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.last++
	s.streams[s.last] = stream
	return s.last
}

func (s *server) stream(number int) (*yamux.Stream, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	stream := s.streams[number]
	if stream == nil {
		return nil, fmt.Errorf("there is no stream %d", number)
	}
	return stream, nil
}

// read returns what one read does, or with all everything up to the end.
func (s *server) read(number int, all bool) (object, error) {
	stream, err := s.stream(number)
	if err != nil {
		return nil, err
	}
	if all {
		octets, err := io.ReadAll(stream)
		stream.Close()
		return object{"data": octets, "octets": len(octets)}, err
	}
	buffer := make([]byte, 64*1024)
	n, err := stream.Read(buffer)
	if err == io.EOF {
		stream.Close()
		return object{"data": []byte{}, "ended": true}, nil
	}
	return object{"data": buffer[:n], "ended": false}, err
}

func (s *server) terminal(id string) (object, error) {
	stream, err := s.open(id)
	if err != nil {
		return nil, err
	}
	if err := writeHeader(stream, streamTerminal, nil); err != nil {
		return nil, err
	}
	return object{"stream": s.keep(stream)}, nil
}

func (s *server) state(id string) object {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	last := ""
	if len(s.documents) > 0 {
		last = s.documents[len(s.documents)-1]
	}
	streams := -1
	if t := s.tunnels[id]; t != nil {
		streams = t.session.NumStreams()
	}
	return object{"documents": len(s.documents), "last": last, "arrivals": s.arrivals, "streams": streams}
}

func (s *server) drop(id string) error {
	s.mutex.Lock()
	t := s.tunnels[id]
	s.mutex.Unlock()
	if t == nil {
		return errors.New("no tunnel")
	}
	t.close()
	return nil
}
