// Package driver lets a test drive a program by lines of JSON.
//
// A command is one line on stdin, {"id": 1, "do": "dial", ...}; its answer is one line on stdout with the same id,
// {"id": 1, "ok": true, ...} or {"id": 1, "ok": false, "kind": "Timeout", "error": "..."}.  Commands run side by side.  The
// program ends when stdin does, and in any case after -life.
package driver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Reply is what a command is answered with.
type Reply map[string]any

// Commands are functions of the parameters of a command, by name.
type Commands map[string]func(parameters json.RawMessage) (Reply, error)

// Command makes one of a function that takes its parameters as a struct.
func Command[P any](run func(*P) (Reply, error)) func(json.RawMessage) (Reply, error) {
	return func(raw json.RawMessage) (Reply, error) {
		parameters := new(P)
		if err := json.Unmarshal(raw, parameters); err != nil {
			return nil, err
		}
		return run(parameters)
	}
}

// Main serves commands until stdin ends.
func Main(commands Commands) {
	life := flag.Duration("life", 5*time.Minute, "the longest that this program runs")
	flag.Parse()
	time.AfterFunc(*life, func() { os.Exit(3) })
	var mutex sync.Mutex
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var head struct {
			ID int    `json:"id"`
			Do string `json:"do"`
		}
		if json.Unmarshal(line, &head) != nil {
			os.Exit(2)
		}
		go func() {
			reply := run(commands, head.Do, line)
			reply["id"] = head.ID
			mutex.Lock()
			defer mutex.Unlock()
			if out.Encode(reply) != nil {
				os.Exit(1)
			}
		}()
	}
}

func run(commands Commands, do string, line []byte) Reply {
	command, ok := commands[do]
	if !ok {
		return Reply{"ok": false, "kind": "Error", "error": fmt.Sprintf("there is no command %q", do)}
	}
	reply, err := command(line)
	if err != nil {
		return Reply{"ok": false, "kind": Kind(err), "error": err.Error()}
	}
	if reply == nil {
		reply = Reply{}
	}
	reply["ok"] = true
	return reply
}

// Kind is what an error is called in an answer.
func Kind(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return "Timeout"
	case errors.Is(err, syscall.ECONNRESET):
		return "ConnectionReset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "ConnectionRefused"
	case errors.Is(err, io.EOF):
		return "EOF"
	}
	return "Error"
}

// Table keeps what commands made, by the numbers that their answers have.
type Table[T any] struct {
	mutex sync.Mutex
	next  int
	kept  map[int]T
}

// Keep returns the number of a new entry.
func (t *Table[T]) Keep(entry T) int {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.kept == nil {
		t.kept = map[int]T{}
	}
	t.next++
	t.kept[t.next] = entry
	return t.next
}

// Find returns an entry.
func (t *Table[T]) Find(number int) (T, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	entry, ok := t.kept[number]
	if !ok {
		return entry, fmt.Errorf("there is no number %d", number)
	}
	return entry, nil
}
