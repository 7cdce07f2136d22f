package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	multistream "github.com/multiformats/go-multistream"
	"github.com/shellhub-io/shellhub/pkg/api/client"
	"github.com/shellhub-io/shellhub/pkg/models"
)

type reaching struct {
	waiting
	Server string `json:"server"` // its URL
}

// limited runs what has no end of its own: the genuine client retries for ever.
func limited[V any](w waiting, run func() (V, error)) (V, error) {
	type ended struct {
		value V
		err   error
	}
	done := make(chan ended, 1)
	go func() {
		value, err := run()
		done <- ended{value, err}
	}()
	select {
	case e := <-done:
		return e.value, e.err
	case <-time.After(w.duration()):
		var none V
		return none, context.DeadlineExceeded
	}
}

type authorizing struct {
	reaching
	Tenant    string   `json:"tenant"`
	MAC       string   `json:"mac"`
	Hostname  string   `json:"hostname"`
	PublicKey string   `json:"public_key"`
	Sessions  []string `json:"sessions"`
}

// authorize does what an agent does before its tunnel: /info, then /api/devices/auth.
func authorize(p *peer, how authorizing) (reply, error) {
	cli, err := client.NewClient(how.Server)
	if err != nil {
		return nil, err
	}
	info, err := limited(how.waiting, func() (*models.Info, error) { return cli.GetInfo("v0.26.0") })
	if err != nil {
		return nil, err
	}
	asked := &models.DeviceAuthRequest{
		Info:     &models.DeviceInfo{ID: "debian", PrettyName: "Debian", Version: "v0.26.0", Arch: "amd64", Platform: "native"},
		Sessions: how.Sessions,
		DeviceAuth: &models.DeviceAuth{
			Hostname: how.Hostname, PublicKey: how.PublicKey, TenantID: how.Tenant,
			Identity: &models.DeviceIdentity{MAC: how.MAC},
		},
	}
	answer, err := limited(how.waiting, func() (*models.DeviceAuthResponse, error) { return cli.AuthDevice(asked) })
	if err != nil {
		return nil, err
	}
	if info == nil || answer == nil {
		return nil, fmt.Errorf("an answer was not understood: %v, %v", info, answer)
	}
	return reply{"info": info, "auth": answer}, nil
}

type vouching struct {
	reaching
	Token       string `json:"token"`
	Fingerprint string `json:"fingerprint"`
	Said        string `json:"said"` // what is to be signed
}

func authKey(p *peer, how vouching) (reply, error) {
	cli, err := client.NewClient(how.Server)
	if err != nil {
		return nil, err
	}
	asked := &models.PublicKeyAuthRequest{Fingerprint: how.Fingerprint, Data: how.Said}
	answer, err := limited(how.waiting, func() (*models.PublicKeyAuthResponse, error) {
		return cli.AuthPublicKey(asked, how.Token)
	})
	if err != nil {
		return nil, err
	}
	if answer == nil {
		return nil, fmt.Errorf("an answer was not understood")
	}
	return reply{"signature": answer.Signature}, nil
}

// behaving is what an agent does with what it is asked for.
type behaving struct {
	reaching
	Token   string         `json:"token"`
	Version int            `json:"version"` // of the transport
	Config  map[string]any `json:"config"`  // of a session of version 2, as it came with the authentication
	SSH     string         `json:"ssh"`     // "echo" greets as SSH does and echoes; "ssh" serves SSH, password "secret"; "mute"
	Name    string         `json:"name"`    // "echo" says it after its greeting
	Retry   float64        `json:"retry"`   // seconds between two connections; 0 connects once
}

// agent is one device: a tunnel at a time, and the sessions it serves.
type agent struct {
	how      behaving
	cli      client.Client
	mutex    sync.Mutex
	sessions map[string]net.Conn
	listener net.Listener
	tunnels  int // that were up
	failures []string
	closed   bool
	sshd     *sshServer
}

// connect makes the genuine listener of its version.
func (a *agent) connect() (net.Listener, error) {
	ctx, cancel := context.WithTimeout(context.Background(), a.how.duration())
	defer cancel()
	if a.how.Version == 1 {
		return a.cli.NewReverseListenerV1(ctx, a.how.Token, "/ssh/connection")
	}
	config := client.NewReverseV2ConfigFromMap(a.how.Config)
	return a.cli.NewReverseListenerV2(ctx, a.how.Token, "/agent/connection", config)
}

// mute takes what comes and never says a word.
func (a *agent) mute(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		defer conn.Close()
	}
}

// serve is the tunnel of its version.
func (a *agent) serve(listener net.Listener) error {
	switch {
	case a.how.SSH == "mute":
		return a.mute(listener)
	case a.how.Version == 1:
		return a.serveV1(listener)
	default:
		return a.serveV2(listener)
	}
}

// serveV2 is the tunnel of version 2: each stream to the handler of the protocol agreed.
func (a *agent) serveV2(listener net.Listener) error {
	mux := multistream.NewMultistreamMuxer[string]()
	mux.AddHandler(protocolOpen, a.openV2)
	mux.AddHandler(protocolClose, a.closeV2)
	mux.AddHandler(protocolProxy, a.proxyV2)
	for {
		stream, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := mux.Handle(stream); err != nil {
				stream.Close()
			}
		}()
	}
}

type connKey struct{}

// serveV1 is the tunnel of version 1: an HTTP server on what was picked up.
func (a *agent) serveV1(listener net.Listener) error {
	router := echo.New()
	router.HideBanner = true
	router.GET("/ssh/:id", a.openV1)
	router.GET("/ssh/close/:id", a.closeV1)
	router.CONNECT("/http/proxy/:addr", a.proxyV1)
	keep := func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	return (&http.Server{Handler: router, ConnContext: keep}).Serve(listener)
}

func (a *agent) up(listener net.Listener) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.listener = listener
	a.tunnels++
	return !a.closed
}

func (a *agent) down(err error) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.listener = nil
	if len(a.failures) < 1000 {
		a.failures = append(a.failures, kind(err))
	}
	return !a.closed
}

func (a *agent) run(listener net.Listener) {
	for {
		var err error
		if listener != nil {
			if !a.up(listener) {
				listener.Close()
				return
			}
			err = a.serve(listener)
		}
		if !a.down(err) || a.how.Retry == 0 {
			return
		}
		time.Sleep(seconds(a.how.Retry))
		listener, _ = a.connect()
	}
}

// startAgent answers once its first tunnel is up.
func startAgent(p *peer, how behaving) (reply, error) {
	a, err := newAgent(how)
	if err != nil {
		return nil, err
	}
	listener, err := a.connect()
	if err != nil {
		return nil, err
	}
	go a.run(listener)
	number := p.number(func(number int) { p.agents[number] = a })
	return reply{"agent": number}, nil
}

func newAgent(how behaving) (*agent, error) {
	cli, err := client.NewClient(how.Server)
	if err != nil {
		return nil, err
	}
	a := &agent{how: how, cli: cli, sessions: map[string]net.Conn{}}
	if how.SSH == "ssh" {
		a.sshd, err = newSSHServer()
	}
	return a, err
}

type ofAgent struct {
	Agent int `json:"agent"`
}

func agentState(p *peer, how ofAgent) (reply, error) {
	a, err := p.agent(how.Agent)
	if err != nil {
		return nil, err
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	sessions := []string{}
	for id := range a.sessions {
		sessions = append(sessions, id)
	}
	said := reply{"up": a.listener != nil, "tunnels": a.tunnels, "failures": a.failures, "sessions": sessions}
	if a.sshd != nil {
		said["ssh_errors"] = a.sshd.errors()
	}
	return said, nil
}

func closeAgent(p *peer, how ofAgent) (reply, error) {
	a, err := p.agent(how.Agent)
	if err != nil {
		return nil, err
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.closed = true
	if a.listener != nil {
		return nil, a.listener.Close()
	}
	return nil, nil
}

type fleeting struct {
	reaching
	Agents []struct {
		MAC     string `json:"mac"`
		Version int    `json:"version"`
	} `json:"agents"`
	Tenant    string `json:"tenant"`
	PublicKey string `json:"public_key"`
}

// fleet authorizes and starts many agents, eight at a time; each is named by its MAC and says so after its greeting.
func fleet(p *peer, how fleeting) (reply, error) {
	type member struct {
		Agent int    `json:"agent"`
		UID   string `json:"uid"`
		MAC   string `json:"mac"`
	}
	members, failures := make([]member, len(how.Agents)), make([]error, len(how.Agents))
	slots := make(chan struct{}, 8)
	var all sync.WaitGroup
	for index, wanted := range how.Agents {
		all.Add(1)
		go func() {
			defer all.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			said, err := authorize(p, authorizing{reaching: how.reaching, Tenant: how.Tenant, MAC: wanted.MAC, PublicKey: how.PublicKey})
			if err != nil {
				failures[index] = err
				return
			}
			auth := said["auth"].(*models.DeviceAuthResponse)
			started, err := startAgent(p, behaving{
				reaching: how.reaching, Token: auth.Token, Version: wanted.Version, Config: auth.Config, SSH: "echo", Name: wanted.MAC,
				Retry: 0.5,
			})
			if err != nil {
				failures[index] = err
				return
			}
			members[index] = member{started["agent"].(int), auth.UID, wanted.MAC}
		}()
	}
	all.Wait()
	for _, err := range failures {
		if err != nil {
			return nil, err
		}
	}
	return reply{"members": members}, nil
}

// headers reads an envelope as the tunnel of version 2 does; what its decoder read too far is lost.
func headers(conn io.Reader) (map[string]string, error) {
	var said map[string]string
	err := json.NewDecoder(conn).Decode(&said)
	return said, err
}
