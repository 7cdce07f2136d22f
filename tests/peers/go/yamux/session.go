package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// configuring holds the fields of yamux.Config that tests turn; durations are seconds, and what is left out keeps its default.
type configuring struct {
	Backlog      int      `json:"backlog"`
	Window       uint32   `json:"window"`
	Keepalive    *float64 `json:"keepalive"` // 0 sends none
	WriteTimeout *float64 `json:"write_timeout"`
	OpenTimeout  *float64 `json:"open_timeout"`
	CloseTimeout *float64 `json:"close_timeout"`
}

// session is one carrier and what speaks on it: yamux, or nothing (role "none"), in which case the carrier is a stream.
type session struct {
	mux     *yamux.Session
	carrier io.ReadWriteCloser
	stream  int // the carrier's own number where there is no yamux
	log     lines
	done    results
}

// lines keeps what yamux logged: a peer that keeps to the rules makes it log nothing.
type lines struct {
	mutex sync.Mutex
	kept  []string
}

func (l *lines) Write(line []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if len(l.kept) < 100 {
		l.kept = append(l.kept, string(bytes.TrimSpace(line)))
	}
	return len(line), nil
}

func (l *lines) all() []string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return append([]string{}, l.kept...)
}

func seconds(value float64) time.Duration {
	return time.Duration(value * float64(time.Second))
}

func (c configuring) yamux(log *log.Logger) (*yamux.Config, error) {
	config := yamux.DefaultConfig()
	config.LogOutput, config.Logger = nil, log
	if c.Backlog != 0 {
		config.AcceptBacklog = c.Backlog
	}
	if c.Window != 0 {
		config.MaxStreamWindowSize = c.Window
	}
	if c.Keepalive != nil {
		config.EnableKeepAlive = *c.Keepalive > 0
		if config.EnableKeepAlive {
			config.KeepAliveInterval = seconds(*c.Keepalive)
		}
	}
	for field, value := range map[*time.Duration]*float64{
		&config.ConnectionWriteTimeout: c.WriteTimeout,
		&config.StreamOpenTimeout:      c.OpenTimeout,
		&config.StreamCloseTimeout:     c.CloseTimeout,
	} {
		if value != nil {
			*field = seconds(*value)
		}
	}
	return config, yamux.VerifyConfig(config)
}

// speak puts the role on the carrier and keeps the session.
func (p *peer) speak(role string, config configuring, carrier io.ReadWriteCloser) (reply, error) {
	s := &session{carrier: carrier}
	s.done.init()
	settings, err := config.yamux(log.New(&s.log, "", 0))
	if err != nil {
		return nil, err
	}
	said := reply{}
	switch role {
	case "client":
		s.mux, err = yamux.Client(carrier, settings)
	case "server":
		s.mux, err = yamux.Server(carrier, settings)
	case "none":
		said = p.keepStream(carrier)
		s.stream = said["stream"].(int)
	default:
		err = fmt.Errorf("there is no role %q", role)
	}
	if err != nil {
		return nil, err
	}
	said["session"] = p.keepSession(s)
	return said, nil
}

type meeting struct {
	carrying
	configuring
	Role string `json:"role"` // of yamux, whoever dials: "client", "server" or "none"
	Port int    `json:"port"`
}

func dial(p *peer, how meeting) (reply, error) {
	carrier, said, err := reach(how.carrying, how.Port)
	if err != nil {
		return said, err
	}
	spoken, err := p.speak(how.Role, how.configuring, carrier)
	for name, value := range spoken {
		said[name] = value
	}
	return said, err
}

func listen(p *peer, how meeting) (reply, error) {
	port, err := await(how.carrying, func(carrier io.ReadWriteCloser) {
		if said, err := p.speak(how.Role, how.configuring, carrier); err == nil {
			p.arrivals <- said["session"].(int)
		}
	})
	return reply{"port": port}, err
}

type waiting struct {
	Timeout float64 `json:"timeout"` // seconds; 10 where it is left out
}

func (w waiting) after() <-chan time.Time {
	if w.Timeout == 0 {
		return time.After(10 * time.Second)
	}
	return time.After(seconds(w.Timeout))
}

// arrived waits for the next connection to a port that listens.
func arrived(p *peer, how waiting) (reply, error) {
	select {
	case number := <-p.arrivals:
		s, err := p.session(number)
		if err != nil {
			return nil, err
		}
		return reply{"session": number, "stream": s.stream}, nil
	case <-how.after():
		return nil, yamux.ErrTimeout
	}
}

type ofSession struct {
	Session int `json:"session"`
	waiting
}

type garbageIn struct {
	Session int    `json:"session"`
	Data    []byte `json:"data"` // base64
}

// garbage writes octets below yamux, straight into the carrier.
func garbage(p *peer, how garbageIn) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	_, err = s.carrier.Write(how.Data)
	return nil, err
}

func ping(p *peer, how ofSession) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	took, err := s.mux.Ping()
	return reply{"seconds": took.Seconds()}, err
}

func goAway(p *peer, how ofSession) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	return nil, s.mux.GoAway()
}

func closeSession(p *peer, how ofSession) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	if s.mux == nil {
		return nil, s.carrier.Close()
	}
	return nil, s.mux.Close()
}

// lost waits for the end of a session, and says what OpenStream makes of it.
func lost(p *peer, how ofSession) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.mux.CloseChan():
		_, accepted := s.mux.AcceptStream()
		return reply{"kind": kind(accepted), "cause": accepted.Error(), "log": s.log.all()}, nil
	case <-how.after():
		return nil, yamux.ErrTimeout
	}
}

func stats(p *peer, how ofSession) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	said := reply{"log": s.log.all(), "handled": s.done.count()}
	if s.mux != nil {
		said["streams"], said["closed"] = s.mux.NumStreams(), s.mux.IsClosed()
	}
	return said, nil
}
