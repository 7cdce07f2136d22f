package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"github.com/hashicorp/yamux"
	multistream "github.com/multiformats/go-multistream"
)

// target is the line that follows the negotiation of a stream for a visitor.
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
	var token, stream, datagrams string
	var pooled bool
	options("edge", arguments, func(f *flag.FlagSet) {
		f.StringVar(&token, "token", "", "what agents must show")
		f.BoolVar(&pooled, "pooled", false, "keep streams for later requests")
		f.StringVar(&stream, "tcp", "", "the host whose agent serves visitors of a TCP port")
		f.StringVar(&datagrams, "udp", "", "the same of a UDP port")
	})
	known := &agents{byHost: map[string]*yamux.Session{}}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ports := map[string]any{"port": socket.Addr().(*net.TCPAddr).Port}
	if stream != "" {
		if ports["tcp"], err = publishTCP(known, stream); err != nil {
			return err
		}
	}
	if datagrams != "" {
		if ports["udp"], err = publishUDP(known, datagrams); err != nil {
			return err
		}
	}
	server := &http.Server{Handler: edgeHandler(known, token, newProxy(known, pooled)), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // by prior knowledge
	go func() { _ = server.Serve(socket) }()
	say(ports)
	untilStdinEnds()
	return nil
}

func newProxy(known *agents, pooled bool) *httputil.ReverseProxy {
	transport := &http.Transport{
		DisableKeepAlives:   !pooled,
		MaxIdleConnsPerHost: 100,
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return dialAgent(known, host, httpProtocol)
		},
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
		Transport: transport,
	}
	if tuned {
		proxy.BufferPool = buffers
		transport.MaxIdleConnsPerHost = 1000
		transport.DisableCompression = true
		transport.ReadBufferSize, transport.WriteBufferSize = 16<<10, 16<<10
	}
	return proxy
}

// edgeHandler takes agents at their door, and gives everything else to the proxy.
func edgeHandler(known *agents, token string, proxy http.Handler) http.Handler {
	upgrader := newUpgrader()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		session, err := yamux.Client(carried(&webSocketConn{Conn: conn}), sessionConfig())
		if err != nil {
			return
		}
		known.mutex.Lock()
		known.byHost[r.Header.Get("X-Host")] = session
		known.mutex.Unlock()
	})
}

// lazyStream negotiates with its first write.
type lazyStream struct {
	*yamux.Stream
	lazy multistream.LazyConn
}

func (l *lazyStream) Read(into []byte) (int, error)  { return l.lazy.Read(into) }
func (l *lazyStream) Write(from []byte) (int, error) { return l.lazy.Write(from) }

// dialAgent opens a stream for a visitor to the agent that serves a host.
func dialAgent(known *agents, host, protocol string) (net.Conn, error) {
	session := known.of(host)
	if session == nil {
		return nil, errors.New("no agent")
	}
	line, err := json.Marshal(target{Host: host})
	if err != nil {
		return nil, err
	}
	var stream net.Conn
	if tuned {
		muxed, err := session.OpenStream()
		if err != nil {
			return nil, err
		}
		stream = &lazyStream{muxed, multistream.NewMSSelect(muxed, protocol)}
	} else if stream, err = openStream(session, protocol); err != nil {
		return nil, err
	}
	_, err = stream.Write(append(line, '\n'))
	return stream, err
}
