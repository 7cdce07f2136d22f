package main

import (
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// Local servers: what is behind the clients.

var upgrader = websocket.Upgrader{}

type local struct {
	Latency float64 `json:"latency"` // seconds; each answer is delayed by a part of it, by chance
}

func (l local) sleep() {
	if l.Latency > 0 {
		time.Sleep(time.Duration(rand.Float64() * l.Latency * float64(time.Second)))
	}
}

func localHTTP(p *peer, asked local) (reply, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		asked.sleep()
		io.WriteString(w, r.URL.Query().Get("echo"))
	})
	mux.HandleFunc("/body", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("X-Coding", strings.Join(r.TransferEncoding, ","))
		w.Header().Set("X-Host", r.Host)
		if err != nil {
			w.WriteHeader(400)
		}
		w.Write(body)
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for number := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", number)
			w.(http.Flusher).Flush()
			select {
			case <-p.events:
			case <-r.Context().Done():
			}
		}
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "after hints")
	})
	mux.HandleFunc("/eager", func(w http.ResponseWriter, r *http.Request) {
		// A first message in the same segment as the head.
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05late!")
		io.Copy(io.Discard, conn)
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil {
				return
			}
			asked.sleep()
			if conn.WriteMessage(kind, message) != nil {
				return
			}
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go http.Serve(listener, mux)
	return p.keepLocal(listener), nil
}

func localTCP(p *peer, asked local) (reply, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				asked.sleep()
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	return p.keepLocal(listener), nil
}

func (p *peer) keepLocal(listener net.Listener) reply {
	number := p.number(func(number int) { p.locals[number] = listener })
	return reply{"number": number, "port": port(listener)}
}

func closeLocal(p *peer, asked which) (reply, error) {
	p.mutex.Lock()
	listener := p.locals[asked.Number]
	p.mutex.Unlock()
	return nil, listener.Close()
}
