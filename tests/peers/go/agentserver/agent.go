package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// agent is one connection of a sandbox.  Its kind is "full", "sdk" or "headless", as the genuine ones differ.
type agent struct {
	kind    string
	target  string
	session *yamux.Session
	carrier *carrier

	mutex     sync.Mutex
	typed     []byte
	sizes     []string
	requests  int
	terminals int
	replay    int
}

type agentOptions struct {
	Module, Kind, URL, Sandbox, Token, Target string
	Heartbeat                                 float64
	Window                                    uint32
	Replay                                    int
}

func connectAgent(o agentOptions) (*agent, int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	url := "ws" + strings.TrimPrefix(strings.TrimSuffix(o.URL, "/"), "http") + "/api/tunnel/" + o.Sandbox + "?token=" + o.Token
	s, status, err := dialSocket(ctx, o.Module, url)
	if err != nil {
		return nil, status, err
	}
	c := newCarrier(s)
	session, err := yamux.Client(c, config(o.Window))
	if err != nil {
		c.Close()
		return nil, status, err
	}
	a := &agent{kind: o.Kind, target: o.Target, session: session, carrier: c, replay: o.Replay}
	go a.accept()
	go a.heartbeat(time.Duration(o.Heartbeat * float64(time.Second)))
	return a, status, nil
}

func (a *agent) accept() {
	for {
		stream, err := a.session.AcceptStream()
		if err != nil {
			return
		}
		go a.serve(stream)
	}
}

func (a *agent) heartbeat(interval time.Duration) {
	for {
		if a.report([]byte(`{"agent_version":"agentsdk/1.0","hostname":"h1","os":"linux"}`)) != nil {
			return
		}
		select {
		case <-time.After(interval):
		case <-a.session.CloseChan():
			return
		}
	}
}

func (a *agent) report(document []byte) error {
	stream, err := a.session.OpenStream()
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := writeHeader(stream, streamControl, nil); err != nil {
		return err
	}
	_, err = stream.Write(document)
	return err
}

func (a *agent) serve(stream *yamux.Stream) {
	defer stream.Close()
	kind, metadata, err := readHeader(stream)
	if err != nil {
		return
	}
	switch kind {
	case streamHTTP:
		a.mutex.Lock()
		a.requests++
		a.mutex.Unlock()
		switch a.kind {
		case "full":
			a.forward(stream, metadata)
		case "sdk":
			a.handle(stream, metadata)
		}
	case streamTerminal:
		a.terminal(stream)
	}
}

func plain(stream io.Writer, status int, text string) {
	writeHeader(stream, streamHTTP, responseMetadata{status, map[string]string{"Content-Type": "text/plain"}})
	io.WriteString(stream, text)
}

// forward is the full agent: a request to a local URL, whose response is streamed.
func (a *agent) forward(stream *yamux.Stream, metadata []byte) {
	var m requestMetadata
	if json.Unmarshal(metadata, &m) != nil {
		plain(stream, 400, "invalid metadata")
		return
	}
	var body io.Reader
	if m.BodyLen > 0 {
		octets := make([]byte, m.BodyLen)
		if _, err := io.ReadFull(stream, octets); err != nil {
			plain(stream, 502, "failed to read request body")
			return
		}
		body = bytes.NewReader(octets)
	}
	request, err := http.NewRequest(m.Method, a.target+m.Path, body)
	if err != nil {
		plain(stream, 502, "failed to create request")
		return
	}
	for name, value := range m.Headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		plain(stream, 502, fmt.Sprintf("local service error: %v", err))
		return
	}
	defer response.Body.Close()
	if writeHeader(stream, streamHTTP, responseMetadata{response.StatusCode, firstValues(response.Header)}) != nil {
		return
	}
	buffer := make([]byte, 32*1024)
	for {
		n, err := response.Body.Read(buffer)
		if n > 0 {
			if _, failed := stream.Write(buffer[:n]); failed != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func firstValues(header http.Header) map[string]string {
	values := map[string]string{}
	for name := range header {
		values[name] = header.Get(name)
	}
	return values
}

// handle is the SDK's agent: a handler whose whole response is buffered.
func (a *agent) handle(stream *yamux.Stream, metadata []byte) {
	var m requestMetadata
	if json.Unmarshal(metadata, &m) != nil {
		return
	}
	octets := make([]byte, max(m.BodyLen, 0))
	if _, err := io.ReadFull(stream, octets); err != nil {
		return
	}
	request := httptest.NewRequest(m.Method, m.Path, bytes.NewReader(octets))
	request.Host = m.Headers["Host"]
	recorder := httptest.NewRecorder()
	recorder.Header().Set("X-Host", request.Host)
	fmt.Fprintf(recorder, "%s %s %d", m.Method, request.RequestURI, len(octets))
	if writeHeader(stream, streamHTTP, responseMetadata{recorder.Code, firstValues(recorder.Header())}) == nil {
		stream.Write(recorder.Body.Bytes())
	}
}

// terminal interprets the first octet of each read, as genuine agents do, and shows in capitals what is typed.
func (a *agent) terminal(stream *yamux.Stream) {
	a.mutex.Lock()
	a.terminals++
	a.mutex.Unlock()
	if a.replay > 0 {
		stream.Write(append([]byte{0}, bytes.Repeat([]byte("h"), a.replay)...))
	}
	buffer := make([]byte, 4096)
	for {
		n, err := stream.Read(buffer)
		if n > 0 {
			if buffer[0] == 1 {
				a.resize(buffer[1:n])
			} else {
				a.mutex.Lock()
				a.typed = append(a.typed, buffer[1:n]...)
				a.mutex.Unlock()
				if bytes.Contains(buffer[1:n], []byte("exit")) {
					return
				}
				stream.Write(append([]byte{0}, bytes.ToUpper(buffer[1:n])...))
			}
		}
		if err != nil {
			return
		}
	}
}

func (a *agent) resize(message []byte) {
	var size struct {
		Type       string
		Cols, Rows uint16
	}
	if json.Unmarshal(message, &size) == nil && size.Type == "resize" {
		a.mutex.Lock()
		a.sizes = append(a.sizes, fmt.Sprintf("%dx%d", size.Cols, size.Rows))
		a.mutex.Unlock()
	}
}

func (a *agent) state() object {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return object{
		"typed": string(a.typed), "sizes": a.sizes, "requests": a.requests, "terminals": a.terminals,
		"closed": a.session.IsClosed(), "streams": a.session.NumStreams(),
	}
}
