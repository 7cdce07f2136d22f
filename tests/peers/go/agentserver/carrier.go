// Package main has both roles of agentserver, written from the description of its wire, over genuine yamux and genuine WebSocket
// modules: nhooyr.io/websocket, which agentserver pins, and github.com/coder/websocket, its successor.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	coder "github.com/coder/websocket"
	"github.com/hashicorp/yamux"
	nhooyr "nhooyr.io/websocket"
)

// socket is what both WebSocket modules have in common.
type socket interface {
	reader(context.Context) (io.Reader, error)
	write(context.Context, []byte) error
	ping(context.Context) error
	close()
}

type nhooyrSocket struct{ *nhooyr.Conn }

func (s nhooyrSocket) reader(ctx context.Context) (io.Reader, error) {
	_, message, err := s.Conn.Reader(ctx)
	return message, err
}
func (s nhooyrSocket) write(ctx context.Context, data []byte) error {
	return s.Conn.Write(ctx, nhooyr.MessageBinary, data)
}
func (s nhooyrSocket) ping(ctx context.Context) error { return s.Conn.Ping(ctx) }
func (s nhooyrSocket) close()                         { s.Conn.Close(nhooyr.StatusNormalClosure, "") }

type coderSocket struct{ *coder.Conn }

func (s coderSocket) reader(ctx context.Context) (io.Reader, error) {
	_, message, err := s.Conn.Reader(ctx)
	return message, err
}
func (s coderSocket) write(ctx context.Context, data []byte) error {
	return s.Conn.Write(ctx, coder.MessageBinary, data)
}
func (s coderSocket) ping(ctx context.Context) error { return s.Conn.Ping(ctx) }
func (s coderSocket) close()                         { s.Conn.Close(coder.StatusNormalClosure, "") }

func dialSocket(ctx context.Context, module, url string) (socket, int, error) {
	var answer *http.Response
	status := func() int {
		if answer == nil {
			return 0
		}
		return answer.StatusCode
	}
	switch module {
	case "nhooyr":
		conn, response, err := nhooyr.Dial(ctx, url, nil)
		answer = response
		if err != nil {
			return nil, status(), err
		}
		conn.SetReadLimit(-1)
		return nhooyrSocket{conn}, status(), nil
	case "coder":
		conn, response, err := coder.Dial(ctx, url, nil)
		answer = response
		if err != nil {
			return nil, status(), err
		}
		conn.SetReadLimit(-1)
		return coderSocket{conn}, status(), nil
	}
	return nil, 0, fmt.Errorf("there is no module %q", module)
}

func acceptSocket(module string, w http.ResponseWriter, r *http.Request) (socket, error) {
	if module == "coder" {
		conn, err := coder.Accept(w, r, &coder.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return nil, err
		}
		conn.SetReadLimit(-1)
		return coderSocket{conn}, nil
	}
	conn, err := nhooyr.Accept(w, r, &nhooyr.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1)
	return nhooyrSocket{conn}, nil
}

// carrier is a WebSocket as a byte stream: each write is one message, reads join the messages.
type carrier struct {
	socket  socket
	ctx     context.Context
	cancel  context.CancelFunc
	message io.Reader
	writing sync.Mutex
	once    sync.Once
}

func newCarrier(s socket) *carrier {
	ctx, cancel := context.WithCancel(context.Background())
	return &carrier{socket: s, ctx: ctx, cancel: cancel}
}

func (c *carrier) Read(into []byte) (int, error) {
	for {
		if c.message == nil {
			message, err := c.socket.reader(c.ctx)
			if err != nil {
				return 0, err
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
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.socket.write(c.ctx, from); err != nil {
		return 0, err
	}
	return len(from), nil
}

// Close cancels first, so that the peer usually sees no Close frame.
func (c *carrier) Close() error {
	c.once.Do(func() {
		c.cancel()
		c.socket.close()
	})
	return nil
}

type address struct{}

func (address) Network() string { return "websocket" }
func (address) String() string  { return "websocket" }

func (c *carrier) LocalAddr() net.Addr              { return address{} }
func (c *carrier) RemoteAddr() net.Addr             { return address{} }
func (c *carrier) SetDeadline(time.Time) error      { return nil }
func (c *carrier) SetReadDeadline(time.Time) error  { return nil }
func (c *carrier) SetWriteDeadline(time.Time) error { return nil }

// config is that of both sides; window 0 is the library's.
func config(window uint32) *yamux.Config {
	settings := yamux.DefaultConfig()
	settings.EnableKeepAlive = false
	settings.ConnectionWriteTimeout = 10 * time.Second
	settings.AcceptBacklog = 256
	settings.LogOutput = io.Discard
	if window > 0 {
		settings.MaxStreamWindowSize = window
	}
	return settings
}
