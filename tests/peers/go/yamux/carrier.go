package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const dialTimeout = 10 * time.Second

// carrying is how two ends meet: the parameters that dial and listen share.
type carrying struct {
	Carrier     string              `json:"carrier"` // "tcp" or "ws"
	Path        string              `json:"path"`    // of the WebSocket
	Subprotocol string              `json:"subprotocol"`
	Fragment    int                 `json:"fragment"`    // octets a WebSocket frame; longer messages are fragmented
	Compression bool                `json:"compression"` // permessage-deflate is offered, or taken
	Headers     map[string][]string `json:"headers"`     // sent with a request, or demanded of one
}

// webSocketConn makes a stream of octets of a WebSocket: what yamux and multistream want.
type webSocketConn struct {
	*websocket.Conn
	reader   io.Reader
	writing  sync.Mutex
	fragment int
}

func (c *webSocketConn) Read(into []byte) (int, error) {
	for {
		if c.reader == nil {
			kind, reader, err := c.NextReader()
			if err != nil {
				var closed *websocket.CloseError
				if errors.As(err, &closed) && closed.Code == websocket.CloseNormalClosure {
					return 0, io.EOF
				}
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("a text message among binary ones")
			}
			c.reader = reader
		}
		count, err := c.reader.Read(into)
		if err == io.EOF {
			c.reader, err = nil, nil
		}
		if count > 0 || err != nil {
			return count, err
		}
	}
}

func (c *webSocketConn) Write(from []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.fragment == 0 {
		if err := c.WriteMessage(websocket.BinaryMessage, from); err != nil {
			return 0, err
		}
		return len(from), nil
	}
	return c.writeFragments(from)
}

// writeFragments fills the connection's write buffer piece by piece: gorilla sends a continuation frame whenever it is full.
func (c *webSocketConn) writeFragments(from []byte) (int, error) {
	writer, err := c.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return 0, err
	}
	for sent := 0; sent < len(from); {
		piece := min(c.fragment, len(from)-sent)
		if _, err := writer.Write(from[sent : sent+piece]); err != nil {
			return sent, err
		}
		sent += piece
	}
	return len(from), writer.Close()
}

// Close says goodbye as a WebSocket does, then drops the connection.
func (c *webSocketConn) Close() error {
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = c.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(time.Second))
	return c.Conn.Close()
}

func reach(how carrying, port int) (io.ReadWriteCloser, reply, error) {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	switch how.Carrier {
	case "tcp":
		conn, err := net.DialTimeout("tcp", address, dialTimeout)
		return conn, reply{}, err
	case "ws":
		dialer := websocket.Dialer{
			HandshakeTimeout: dialTimeout, WriteBufferSize: how.Fragment, EnableCompression: how.Compression,
		}
		if how.Subprotocol != "" {
			dialer.Subprotocols = []string{how.Subprotocol}
		}
		conn, response, err := dialer.Dial("ws://"+address+how.Path, http.Header(how.Headers))
		if err != nil {
			if response != nil {
				return nil, reply{"status": response.StatusCode}, err
			}
			return nil, reply{}, err
		}
		said := reply{"status": response.StatusCode, "subprotocol": conn.Subprotocol()}
		return &webSocketConn{Conn: conn, fragment: how.Fragment}, said, nil
	}
	return nil, nil, fmt.Errorf("there is no carrier %q", how.Carrier)
}

// await takes connections on a free port and gives each to taken, which runs on a goroutine of its own.
func await(how carrying, taken func(io.ReadWriteCloser)) (int, error) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := socket.Addr().(*net.TCPAddr).Port
	switch how.Carrier {
	case "tcp":
		go func() {
			for {
				conn, err := socket.Accept()
				if err != nil {
					return
				}
				go taken(conn)
			}
		}()
		return port, nil
	case "ws":
		go func() { _ = http.Serve(socket, upgrading(how, taken)) }()
		return port, nil
	}
	socket.Close()
	return 0, fmt.Errorf("there is no carrier %q", how.Carrier)
}

func upgrading(how carrying, taken func(io.ReadWriteCloser)) http.Handler {
	upgrader := websocket.Upgrader{WriteBufferSize: how.Fragment, EnableCompression: how.Compression}
	if how.Subprotocol != "" {
		upgrader.Subprotocols = []string{how.Subprotocol}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if how.Path != "" && r.URL.Path != how.Path {
			http.NotFound(w, r)
			return
		}
		for name, values := range how.Headers {
			if r.Header.Get(name) != values[0] {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
		}
		if conn, err := upgrader.Upgrade(w, r, nil); err == nil {
			taken(&webSocketConn{Conn: conn, fragment: how.Fragment})
		}
	})
}
