package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Visitors of a server: what is public.

// patience bounds what happens at once, however busy the machine is.
const patience = 25 * time.Second

type visit struct {
	Port   int     `json:"port"`
	Host   string  `json:"host"`
	Path   string  `json:"path"`
	Count  int     `json:"count"`
	Size   int     `json:"size"`
	Octets string  `json:"octets"`
	Until  string  `json:"until"`  // the end of what is received
	Server string  `json:"server"` // address; 127.0.0.1 where it is left out
	Within float64 `json:"within"`
}

func (v visit) address() string {
	host := v.Server
	if host == "" {
		host = "127.0.0.1"
	}
	return fmt.Sprintf("%s:%d", host, v.Port)
}

// each runs as many visitors at once as are wanted, and gives the first error.
func (v visit) each(run func(number int) error) error {
	if v.Count == 0 {
		v.Count = 1
	}
	failed := make(chan error, v.Count)
	var group sync.WaitGroup
	for number := range v.Count {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := run(number); err != nil {
				failed <- fmt.Errorf("visitor %d: %w", number, err)
			}
		}()
	}
	group.Wait()
	close(failed)
	return <-failed
}

func (v visit) client() *http.Client {
	return &http.Client{Timeout: seconds(v.Within), Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
}

// get sends requests at once, each of which wants its own words back; it answers with the last body.
func get(p *peer, asked visit) (reply, error) {
	client := asked.client()
	defer client.CloseIdleConnections()
	var mutex sync.Mutex
	said := reply{}
	err := asked.each(func(number int) error {
		word := fmt.Sprintf("hello%d", number)
		request, err := http.NewRequest("GET", "http://"+asked.address()+"/"+asked.Path+"?"+url.Values{"echo": {word}}.Encode(), nil)
		if err != nil {
			return err
		}
		request.Host, request.Close = asked.Host, rand.Int()%2 == 0
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		mutex.Lock()
		said["status"], said["body"] = response.StatusCode, string(body)
		mutex.Unlock()
		if asked.Count > 0 && string(body) != word {
			return fmt.Errorf("got %d %.80q, want %q", response.StatusCode, body, word)
		}
		return nil
	})
	return said, err
}

// raw sends octets, and answers with what comes until the end or for a time.
func raw(p *peer, asked visit) (reply, error) {
	conn, err := net.Dial("tcp", asked.address())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, asked.Octets); err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	var got []byte
	for piece := make([]byte, 4096); !bytes.HasSuffix(got, []byte(asked.Until)); {
		read, err := conn.Read(piece)
		got = append(got, piece[:read]...)
		if err != nil {
			return nil, fmt.Errorf("%w after %q", err, got)
		}
	}
	return reply{"data": got}, nil
}

// post sends bodies in chunks, and wants them back.
func post(p *peer, asked visit) (reply, error) {
	client := asked.client()
	defer client.CloseIdleConnections()
	said := reply{}
	var mutex sync.Mutex
	err := asked.each(func(number int) error {
		sent := bytes.Repeat([]byte{byte('a' + number%26)}, asked.Size)
		request, err := http.NewRequest("POST", "http://"+asked.address()+"/body", struct{ io.Reader }{bytes.NewReader(sent)})
		if err != nil {
			return err
		}
		request.Host = asked.Host
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		if !bytes.Equal(sent, got) {
			return fmt.Errorf("%d octets came back of %d, status %d", len(got), len(sent), response.StatusCode)
		}
		mutex.Lock()
		said["coding"], said["host"] = response.Header.Get("X-Coding"), response.Header.Get("X-Host")
		mutex.Unlock()
		return nil
	})
	return said, err
}

// events reads a stream of events, whose server sends each when the one before was read, and answers with their number.
func events(p *peer, asked visit) (reply, error) {
	request, err := http.NewRequest("GET", "http://"+asked.address()+"/events", nil)
	if err != nil {
		return nil, err
	}
	request.Host = asked.Host
	client := asked.client()
	client.Timeout = patience
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	read := 0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if lines.Text() != "" {
			read++
			p.events <- struct{}{}
		}
	}
	return reply{"events": read}, nil
}

// webSocket wants each of some messages back.
func webSocket(p *peer, asked visit) (reply, error) {
	return nil, asked.each(func(number int) error {
		dialer := websocket.Dialer{HandshakeTimeout: seconds(asked.Within)}
		conn, response, err := dialer.Dial("ws://"+asked.address()+"/ws", http.Header{"Host": {asked.Host}})
		if err != nil {
			if response != nil {
				return fmt.Errorf("%w: %s", err, response.Status)
			}
			return err
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(seconds(asked.Within)))
		for _, message := range []string{"one", strings.Repeat("two", 50_000), "three"} {
			if err := conn.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
				return err
			}
			_, got, err := conn.ReadMessage()
			if err != nil {
				return err
			}
			if string(got) != message {
				return fmt.Errorf("%d octets came back of %d", len(got), len(message))
			}
		}
		return nil
	})
}

// tcp wants lines back.
func tcp(p *peer, asked visit) (reply, error) {
	return nil, asked.each(func(number int) error {
		conn, err := net.Dial("tcp", asked.address())
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(seconds(asked.Within)))
		word := fmt.Sprintf("hello%d\n", number)
		if _, err := io.WriteString(conn, word); err != nil {
			return err
		}
		got, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			return err
		}
		if got != word {
			return fmt.Errorf("got %q, want %q", got, word)
		}
		return nil
	})
}
