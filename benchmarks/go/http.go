package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"
	multistream "github.com/multiformats/go-multistream"
)

const (
	httpProtocol = "/bench/http/1.0.0"
	door         = "/agent"
	greeting     = "Hello world\n" // what the origin answers: 12 octets
)

// target is the line that follows the negotiation of a stream for HTTP.
type target struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

// agents are the sessions of an edge by the public host each serves.
type agents struct {
	mutex  sync.RWMutex
	byHost map[string]*yamux.Session
}

func (a *agents) of(host string) *yamux.Session {
	a.mutex.RLock()
	defer a.mutex.RUnlock()
	return a.byHost[host]
}

// edgePart listens once for agents and visitors: agents come by WebSocket and are yamux servers, visitors are proxied.
func edgePart(arguments []string) error {
	var token string
	var pooled bool
	options("edge", arguments, func(f *flag.FlagSet) {
		f.StringVar(&token, "token", "", "what agents must show")
		f.BoolVar(&pooled, "pooled", false, "keep streams for later requests")
	})
	known := &agents{byHost: map[string]*yamux.Session{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{
			DisableKeepAlives:   !pooled,
			MaxIdleConnsPerHost: 100,
			DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
				return dialAgent(known, address)
			},
		},
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	upgrader := websocket.Upgrader{}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != door {
			proxy.ServeHTTP(w, r)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		session, err := yamux.Client(&webSocketConn{Conn: conn}, nil)
		if err != nil {
			return
		}
		known.mutex.Lock()
		known.byHost[r.Header.Get("X-Host")] = session
		known.mutex.Unlock()
	})
	say(map[string]any{"port": socket.Addr().(*net.TCPAddr).Port})
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // by prior knowledge
	go func() { _ = server.Serve(socket) }()
	untilStdinEnds()
	return nil
}

// dialAgent opens a stream for HTTP to the agent that serves a host.
func dialAgent(known *agents, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	session := known.of(host)
	if session == nil {
		return nil, errors.New("no agent")
	}
	stream, err := openStream(session, httpProtocol)
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(target{Host: host})
	if err != nil {
		return nil, err
	}
	_, err = stream.Write(append(line, '\n'))
	return stream, err
}

// agentPart joins each stream of its edge to a connection to the origin.
func agentPart(arguments []string) error {
	var edge, token, host, origin string
	var count int
	options("agent", arguments, func(f *flag.FlagSet) {
		f.StringVar(&edge, "edge", "", "host:port")
		f.StringVar(&token, "token", "", "to show")
		f.StringVar(&host, "host", "", "the public host to serve")
		f.StringVar(&origin, "origin", "", "host:port")
		f.IntVar(&count, "count", 1, "agents in this process, each with a host of its own")
	})
	for number := range count {
		name := host
		if number > 0 {
			name = fmt.Sprintf("%d.%s", number, host)
		}
		header := http.Header{"Authorization": {"Bearer " + token}, "X-Host": {name}}
		conn, err := reach("ws", edge, door, "", header)
		if err != nil {
			return err
		}
		session, err := yamux.Server(conn, nil)
		if err != nil {
			return err
		}
		go serveEdge(session, origin)
	}
	say(map[string]any{"agents": count})
	untilStdinEnds()
	return nil
}

func serveEdge(session *yamux.Session, origin string) {
	mux := multistream.NewMultistreamMuxer[string]()
	mux.AddHandler(httpProtocol, func(_ string, stream io.ReadWriteCloser) error { return join(stream, origin) })
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return
		}
		go func() {
			defer stream.Close()
			_ = mux.Handle(stream)
		}()
	}
}

func join(stream io.ReadWriteCloser, origin string) error {
	reader := bufio.NewReader(stream)
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return err
	}
	var wanted target
	if err := json.Unmarshal(line, &wanted); err != nil {
		return err
	}
	conn, err := net.Dial("tcp", origin)
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(stream, conn)
		stream.Close()
	}()
	_, err = io.Copy(conn, reader)
	return err
}

// originPart answers 12 octets; /octets?count=N answers N, and what is posted to /sink is counted.
func originPart([]string) error {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, greeting) })
	mux.HandleFunc("/octets", func(w http.ResponseWriter, r *http.Request) {
		count, err := strconv.ParseInt(r.URL.Query().Get("count"), 10, 64)
		if err != nil {
			http.Error(w, "how many?", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(count, 10))
		w.Header().Set("Content-Type", "application/octet-stream")
		piece := make([]byte, block)
		for ; count > 0; count -= block {
			if _, err := w.Write(piece[:min(block, count)]); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/sink", func(w http.ResponseWriter, r *http.Request) {
		count, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, block))
		if err == nil {
			fmt.Fprint(w, count)
		}
	})
	say(map[string]any{"port": socket.Addr().(*net.TCPAddr).Port})
	go func() { _ = http.Serve(socket, mux) }()
	untilStdinEnds()
	return nil
}

// visitor is a raw HTTP/1.1 client: one connection, one request at a time.
type visitor struct {
	address string
	request []byte
	body    int // octets that follow the head
	expect  int // octets of the response's body; -1 is the count of what was sent
	conn    net.Conn
	reader  *bufio.Reader
}

func (v *visitor) connect() (err error) {
	if v.conn, err = net.Dial("tcp", v.address); err == nil {
		v.reader = bufio.NewReaderSize(v.conn, block)
	}
	return err
}

// ask sends the request and checks status, length and, of a short answer, every octet.
func (v *visitor) ask() error {
	if _, err := v.conn.Write(v.request); err != nil {
		return err
	}
	written := make(chan error, 1)
	if v.body > 0 {
		go func() { written <- v.upload() }()
	} else {
		written <- nil
	}
	length, err := v.head()
	if err != nil {
		return err
	}
	if v.expect > len(greeting) {
		if length != v.expect {
			return fmt.Errorf("%d octets came instead of %d", length, v.expect)
		}
		rest := io.LimitReader(v.reader, int64(length))
		got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, rest, make([]byte, block))
		if err == nil && got < int64(length) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(v.reader, body); err != nil {
		return err
	}
	want := greeting
	if v.expect < 0 {
		want = strconv.Itoa(v.body)
	}
	if string(body) != want {
		return errDiffers
	}
	return <-written
}

func (v *visitor) upload() error {
	piece := make([]byte, block)
	for left := v.body; left > 0; left -= block {
		if _, err := v.conn.Write(piece[:min(block, left)]); err != nil {
			return err
		}
	}
	return nil
}

// head reads a response's head and gives the length of its body.
func (v *visitor) head() (int, error) {
	line, err := v.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		return 0, fmt.Errorf("the answer was %q", line)
	}
	length := -1
	for {
		line, err := v.reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, errors.New("the answer has no length")
	}
	return length, nil
}

// loadPart is the visitors: some connections that ask again and again, kept or new for every request.
func loadPart(arguments []string) error {
	var address, host string
	var connections, download, upload, count int
	var fresh bool
	var duration time.Duration
	options("load", arguments, func(f *flag.FlagSet) {
		f.StringVar(&address, "address", "", "host:port")
		f.StringVar(&host, "host", "", "the Host header")
		f.IntVar(&connections, "connections", 32, "visitors at a time")
		f.BoolVar(&fresh, "new", false, "a connection for each request")
		f.IntVar(&download, "download", 0, "octets to ask for")
		f.IntVar(&upload, "upload", 0, "octets to post")
		f.IntVar(&count, "count", 0, "requests of each visitor; 0 is as many as fit into the duration")
		f.DurationVar(&duration, "duration", time.Second, "how long")
	})
	end := "\r\nHost: " + host + "\r\nUser-Agent: load\r\nAccept: */*\r\n"
	if fresh {
		end += "Connection: close\r\n"
	}
	request, expect := "GET / HTTP/1.1"+end+"\r\n", len(greeting)
	if download > 0 {
		request, expect = fmt.Sprintf("GET /octets?count=%d HTTP/1.1%s\r\n", download, end), download
	}
	if upload > 0 {
		request, expect = fmt.Sprintf("POST /sink HTTP/1.1%sContent-Length: %d\r\n\r\n", end, upload), -1
	}
	var workers sync.WaitGroup
	var done atomic.Int64
	var mutex sync.Mutex
	var trips []float64
	failures := make(chan error, connections)
	start := time.Now()
	for range connections {
		workers.Add(1)
		go func() {
			defer workers.Done()
			var mine []float64
			defer func() {
				mutex.Lock()
				trips = append(trips, mine...)
				mutex.Unlock()
			}()
			v := &visitor{address: address, request: []byte(request), body: upload, expect: expect}
			for asked := 0; count == 0 && time.Since(start) < duration || asked < count; asked++ {
				began := time.Now()
				if v.conn == nil {
					if err := v.connect(); err != nil {
						failures <- err
						return
					}
				}
				if err := v.ask(); err != nil {
					failures <- err
					return
				}
				done.Add(1)
				mine = append(mine, time.Since(began).Seconds())
				if fresh {
					v.conn.Close()
					v.conn = nil
				}
			}
		}()
	}
	workers.Wait()
	took := time.Since(start).Seconds()
	select {
	case err := <-failures:
		return err
	default:
	}
	if done.Load() == 0 {
		fmt.Fprintln(os.Stderr, "bench load: nothing was asked")
	}
	sort.Float64s(trips)
	result := map[string]any{"count": done.Load(), "seconds": took}
	if len(trips) > 0 {
		result["p50"], result["p99"] = trips[len(trips)/2], trips[len(trips)*99/100]
	}
	say(result)
	return nil
}
