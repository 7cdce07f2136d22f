package main

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/pion/dtls/v3"

	"tunnelstack.test/peers/godoxy/protocol"
)

// agent is one port, with both of its protocols.
type agent struct {
	settings *settings
	port     int
	server   *http.Server
	udp      net.Listener

	mutex  sync.Mutex
	events []string
	lost   int
	open   map[net.Conn]bool
}

func (a *agent) note(format string, words ...any) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.events = append(a.events, fmt.Sprintf(format, words...))
}

func (a *agent) seen() []string {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return append([]string{}, a.events...)
}

// pair reads the value of AGENT_CA_CERT or AGENT_SSL_CERT: a certificate and its key.
func pair(text string) (string, string, error) {
	parts := strings.Split(text, ";")
	if len(parts) != 2 {
		return "", "", errors.New("no pair")
	}
	certificate, err := base64.StdEncoding.DecodeString(parts[0])
	if err != nil {
		return "", "", err
	}
	key, err := base64.StdEncoding.DecodeString(parts[1])
	if err != nil {
		return "", "", err
	}
	_, err = tls.X509KeyPair(certificate, key)
	return string(certificate), string(key), err
}

func (s *settings) load() error {
	if s.Pair == "" {
		return nil
	}
	var err error
	if s.Authority, _, err = pair(s.CAPair); err != nil {
		return err
	}
	s.Certificate, s.Key, err = pair(s.Pair)
	return err
}

func start(s *settings) (*agent, error) {
	if err := s.load(); err != nil {
		return nil, err
	}
	a := &agent{settings: s, open: map[net.Conn]bool{}}
	tcp, err := a.listen()
	if err != nil {
		return nil, err
	}
	config, err := s.TLSServer()
	if err != nil {
		return nil, err
	}
	if s.NoStreams {
		config.NextProtos = config.NextProtos[:1]
	}
	if s.NoALPN {
		config.NextProtos = nil
	}
	a.server = &http.Server{
		Handler: a.handler(),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			protocol.ALPN: func(_ *http.Server, conn *tls.Conn, _ http.Handler) { a.serveStream(conn) },
		},
	}
	go a.server.Serve(tls.NewListener(tcp, config))
	return a, nil
}

// listen opens a port for both protocols.
func (a *agent) listen() (net.Listener, error) {
	config, err := a.settings.DTLSServer()
	if err != nil {
		return nil, err
	}
	for {
		tcp, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", a.settings.Port))
		if err != nil {
			return nil, err
		}
		a.port = tcp.Addr().(*net.TCPAddr).Port
		if a.settings.NoUDP {
			return tcp, nil
		}
		a.udp, err = dtls.Listen("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: a.port}, config)
		if err == nil {
			go a.serveDatagrams()
			return tcp, nil
		}
		tcp.Close()
		if a.settings.Port != 0 {
			return nil, err
		}
	}
}

func (a *agent) stop() {
	a.server.Close()
	if a.udp != nil {
		a.udp.Close()
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for conn := range a.open {
		conn.Close()
	}
}

func (a *agent) opened(conn net.Conn) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.open[conn] = true
}

func (a *agent) closed(conn net.Conn) {
	conn.Close()
	a.mutex.Lock()
	defer a.mutex.Unlock()
	delete(a.open, conn)
}
