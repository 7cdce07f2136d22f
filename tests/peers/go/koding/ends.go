package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cenkalti/backoff"
	"github.com/koding/tunnel"
)

// The server.

type serving struct {
	Hosts map[string]string `json:"hosts"` // host -> identifier
	Port  int               `json:"port"`  // any free one, where it is left out
}

func serve(p *peer, asked serving) (reply, error) {
	changes, channel := record()
	server, err := tunnel.NewServer(&tunnel.ServerConfig{StateChanges: channel})
	if err != nil {
		return nil, err
	}
	for host, identifier := range asked.Hosts {
		server.AddHost(host, identifier)
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", asked.Port))
	if err != nil {
		return nil, err
	}
	go http.Serve(listener, server)
	p.mutex.Lock()
	p.server, p.changes[0] = server, changes
	p.mutex.Unlock()
	return reply{"port": port(listener)}, nil
}

func port(listener net.Listener) int {
	return listener.Addr().(*net.TCPAddr).Port
}

type hosting struct {
	Host       string  `json:"host"`
	Identifier string  `json:"identifier"`
	IP         string  `json:"ip"`
	Within     float64 `json:"within"` // seconds; 30 where it is left out
}

func addHost(p *peer, asked hosting) (reply, error) {
	p.server.AddHost(asked.Host, asked.Identifier)
	return nil, nil
}

func deleteHost(p *peer, asked hosting) (reply, error) {
	p.server.DeleteHost(asked.Host)
	return nil, nil
}

func addAddr(p *peer, asked hosting) (reply, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.server.AddAddr(listener, net.ParseIP(asked.IP), asked.Identifier)
	return reply{"port": port(listener)}, nil
}

func connected(p *peer, asked hosting) (reply, error) {
	return fired(p.server.OnConnect, asked)
}

func disconnected(p *peer, asked hosting) (reply, error) {
	return fired(p.server.OnDisconnect, asked)
}

// fired waits for a callback of the server, which is called once.
func fired(on func(string, func() error), asked hosting) (reply, error) {
	called := make(chan struct{}, 1)
	on(asked.Identifier, func() error {
		called <- struct{}{}
		return nil
	})
	select {
	case <-called:
		return nil, nil
	case <-time.After(seconds(asked.Within)):
		return nil, context.DeadlineExceeded
	}
}

func seconds(value float64) time.Duration {
	if value == 0 {
		value = 30
	}
	return time.Duration(value * float64(time.Second))
}

type which struct {
	Number int `json:"number"`
}

func states(p *peer, asked which) (reply, error) {
	p.mutex.Lock()
	changes, ok := p.changes[asked.Number]
	p.mutex.Unlock()
	if !ok {
		return nil, fmt.Errorf("nothing is recorded for %d", asked.Number)
	}
	changes.mutex.Lock()
	defer changes.mutex.Unlock()
	return reply{"states": append([]string{}, changes.seen...)}, nil
}

// Clients.

type client struct {
	Identifier string         `json:"identifier"`
	Server     string         `json:"server"`
	HTTP       string         `json:"http"` // address of the local server; the port that is asked for, where it is left out
	TCP        map[int]string `json:"tcp"`  // by port
	Once       bool           `json:"once"` // do not dial again
	Wait       *bool          `json:"wait"` // until it is connected; true where it is left out
}

func startClient(p *peer, asked client) (reply, error) {
	changes, channel := record()
	config := &tunnel.ClientConfig{Identifier: asked.Identifier, ServerAddr: asked.Server, StateChanges: channel}
	functions := tunnel.ProxyFuncs{}
	if asked.HTTP != "" {
		proxy := (&tunnel.HTTPProxy{LocalAddr: asked.HTTP}).Proxy
		functions.HTTP, functions.WS = proxy, proxy
	}
	if asked.TCP != nil {
		functions.TCP = (&tunnel.TCPProxy{FetchLocalAddr: func(port int) (string, error) {
			if address, ok := asked.TCP[port]; ok {
				return address, nil
			}
			return "", fmt.Errorf("no route for port %d", port)
		}}).Proxy
	}
	config.Proxy = tunnel.Proxy(functions)
	if asked.Once {
		config.Backoff = backoff.NewConstantBackOff(time.Duration(-1))
	}
	made, err := tunnel.NewClient(config)
	if err != nil {
		return nil, err
	}
	number := p.number(func(number int) { p.clients[number], p.changes[number] = made, changes })
	go made.Start()
	if asked.Wait == nil || *asked.Wait {
		err = started(made)
	}
	return reply{"number": number}, err
}

func started(made *tunnel.Client) error {
	select {
	case <-made.StartNotify():
		return nil
	case <-time.After(10 * time.Second):
		return context.DeadlineExceeded
	}
}

func restartClient(p *peer, asked which) (reply, error) {
	made := p.client(asked.Number)
	go made.Start()
	return nil, started(made)
}

func closeClient(p *peer, asked which) (reply, error) {
	return nil, p.client(asked.Number).Close()
}

func (p *peer) client(number int) *tunnel.Client {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.clients[number]
}
