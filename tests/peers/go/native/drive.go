package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

// command is what a test asks for: one JSON object a line on standard input, answered by one with the same id.
type command struct {
	ID                                int
	Do, Edge, Token, Instance, Target string
	To, Purpose                       string
	Data                              []byte
	Service                           object
}

func (c *command) run(a **agent) (object, error) {
	if c.Do == "connect" {
		made, welcome, err := connect(c.Edge, c.Token, c.Instance)
		*a = made
		return object{"welcome": welcome}, err
	}
	if *a == nil {
		return nil, errors.New("connect first")
	}
	switch c.Do {
	case "announce":
		(*a).mutex.Lock()
		(*a).targets[fmt.Sprintf("%v/%v", c.Service["kind"], c.Service["name"])] = c.Target
		(*a).mutex.Unlock()
		return (*a).ask("announce", c.Service)
	case "withdraw", "drain":
		return (*a).ask(c.Do, c.Service)
	case "dial":
		got, err := (*a).dial(c.To, c.Purpose, c.Data)
		return object{"data": base64.StdEncoding.EncodeToString(got)}, err
	case "event":
		return object{"event": <-(*a).events}, nil
	case "close":
		return object{}, (*a).session.Close()
	}
	return nil, fmt.Errorf("there is nothing called %q to do", c.Do)
}

func main() {
	life := flag.Duration("life", time.Minute, "how long it runs at most")
	flag.Parse()
	time.AfterFunc(*life, func() { os.Exit(3) })
	var a *agent
	commands := json.NewDecoder(os.Stdin)
	for {
		var c command
		if commands.Decode(&c) != nil {
			return
		}
		said, err := c.run(&a)
		if said == nil {
			said = object{}
		}
		said["id"], said["ok"] = c.ID, err == nil
		if err != nil {
			said["error"], said["kind"] = err.Error(), "Error"
		}
		json.NewEncoder(os.Stdout).Encode(said)
	}
}
