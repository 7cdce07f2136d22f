package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/gorilla/websocket"
)

const block = 64 << 10 // octets of one Write or Read of a bulk transfer

// webSocketConn makes a stream of octets of a WebSocket, as the programs in the field do.
type webSocketConn struct {
	*websocket.Conn
	reader  io.Reader
	writing sync.Mutex
}

func (c *webSocketConn) Read(into []byte) (int, error) {
	for {
		if c.reader == nil {
			_, reader, err := c.NextReader()
			if err != nil {
				return 0, err
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
	if err := c.WriteMessage(websocket.BinaryMessage, from); err != nil {
		return 0, err
	}
	return len(from), nil
}

// reach dials a carrier: tcp, ws, or wss with the server's own certificate as the only root.
func reach(carrier, address, path, certificate string, header http.Header) (io.ReadWriteCloser, error) {
	dialer, scheme := newDialer(), "ws"
	switch carrier {
	case "tcp":
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return nil, err
		}
		return carried(conn), nil
	case "ws":
	case "wss":
		roots := x509.NewCertPool()
		octets, err := os.ReadFile(certificate)
		if err != nil {
			return nil, err
		}
		roots.AppendCertsFromPEM(octets)
		dialer.TLSClientConfig, scheme = &tls.Config{RootCAs: roots, ServerName: "localhost"}, "wss"
	default:
		return nil, fmt.Errorf("there is no carrier %q", carrier)
	}
	conn, _, err := dialer.Dial(scheme+"://"+address+path, header)
	if err != nil {
		return nil, err
	}
	return carried(&webSocketConn{Conn: conn}), nil
}

// await listens, says the port, and gives each carrier to taken on a goroutine of its own.
func await(carrier, certificate, key string, taken func(io.ReadWriteCloser)) error {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	say(map[string]any{"port": socket.Addr().(*net.TCPAddr).Port})
	upgrader := newUpgrader()
	upgrade := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := upgrader.Upgrade(w, r, nil); err == nil {
			taken(carried(&webSocketConn{Conn: conn}))
		}
	})
	switch carrier {
	case "tcp":
		for {
			conn, err := socket.Accept()
			if err != nil {
				return err
			}
			go taken(carried(conn))
		}
	case "ws":
		return http.Serve(socket, upgrade)
	case "wss":
		return http.ServeTLS(socket, upgrade, certificate, key)
	}
	return fmt.Errorf("there is no carrier %q", carrier)
}
