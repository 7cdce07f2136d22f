package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"
)

type object = map[string]any

// command is what a test asks for: one JSON object a line on standard input, answered by one with the same id.
type command struct {
	ID       int
	Do       string
	Agent    agentOptions
	Number   int // of an agent or a stream
	Module   string
	Token    string
	Sandbox  string
	Window   uint32
	Interval float64
	Mute     bool

	Method, Path, Metadata string
	Headers                map[string]string
	Data                   []byte
	Size                   int
	BodyLen                *int
	Close, All             bool
}

type peer struct {
	mutex  sync.Mutex
	agents []*agent
	server *server
}

func (p *peer) agent(number int) (*agent, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if number < 0 || number >= len(p.agents) {
		return nil, fmt.Errorf("there is no agent %d", number)
	}
	return p.agents[number], nil
}

func (p *peer) run(c *command) (object, error) {
	switch c.Do {
	case "connect":
		a, status, err := connectAgent(c.Agent)
		if err != nil {
			return object{"status": status}, err
		}
		p.mutex.Lock()
		p.agents = append(p.agents, a)
		number := len(p.agents) - 1
		p.mutex.Unlock()
		return object{"agent": number, "status": status}, nil
	case "agent", "report", "leave":
		a, err := p.agent(c.Number)
		if err != nil {
			return nil, err
		}
		switch c.Do {
		case "report":
			return object{}, a.report(c.Data)
		case "leave":
			a.session.Close()
			return object{}, a.carrier.Close()
		}
		return a.state(), nil
	case "serve":
		s, err := serve(c.Module, c.Token, c.Window, c.Interval, c.Mute)
		if err != nil {
			return nil, err
		}
		p.server = s
		return object{"url": "http://" + s.listener.Addr().String()}, nil
	}
	if p.server == nil {
		return nil, errors.New("serve first")
	}
	switch c.Do {
	case "ask":
		return p.server.ask(c)
	case "read":
		return p.server.read(c.Number, c.All)
	case "terminal":
		return p.server.terminal(c.Sandbox)
	case "write":
		stream, err := p.server.stream(c.Number)
		if err == nil {
			_, err = stream.Write(c.Data)
		}
		return object{}, err
	case "end":
		stream, err := p.server.stream(c.Number)
		if err == nil {
			err = stream.Close()
		}
		return object{}, err
	case "state":
		return p.server.state(c.Sandbox), nil
	case "drop":
		return object{}, p.server.drop(c.Sandbox)
	}
	return nil, fmt.Errorf("there is nothing called %q to do", c.Do)
}

func main() {
	life := flag.Duration("life", time.Minute, "how long it runs at most")
	flag.Parse()
	time.AfterFunc(*life, func() { os.Exit(3) })
	var writing sync.Mutex
	p := &peer{}
	commands := json.NewDecoder(os.Stdin)
	for {
		var c command
		if commands.Decode(&c) != nil {
			return
		}
		go func() {
			said, err := p.run(&c)
			if said == nil {
				said = object{}
			}
			said["id"], said["ok"] = c.ID, err == nil
			if err != nil {
				said["error"], said["kind"] = err.Error(), "Error"
			}
			writing.Lock()
			defer writing.Unlock()
			json.NewEncoder(os.Stdout).Encode(said)
		}()
	}
}
