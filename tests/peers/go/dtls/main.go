// Program peer is a genuine Go end of DTLS 1.2: pion/dtls as it is, driven by a test.
//
// A command is one line of JSON on stdin, {"id": 1, "do": "dial", ...}; its answer is one line on stdout with the same id,
// {"id": 1, "ok": true, ...} or {"id": 1, "ok": false, "kind": "Timeout", "error": "..."}. Commands run side by side. The
// program ends when stdin does, and in any case after -life.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
)

const largest = 65535 // octets of one datagram

type reply map[string]any

// end is how either side is to be set up: the certificates in PEM, what the server's name is, and how strict it is.
type end struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	Authority   string `json:"authority"`
	Name        string `json:"name"`
	Mutual      bool   `json:"mutual"`
	Cipher      uint16 `json:"cipher"`
	Port        int    `json:"port"`
	Seconds     int    `json:"seconds"`
	Conn        int    `json:"conn"`
	Data        []byte `json:"data"`
}

func (e *end) config() (*dtls.Config, error) {
	config := &dtls.Config{ServerName: e.Name, ExtendedMasterSecret: dtls.RequireExtendedMasterSecret}
	if e.Cipher != 0 {
		config.CipherSuites = []dtls.CipherSuiteID{dtls.CipherSuiteID(e.Cipher)}
	}
	if e.Certificate != "" {
		pair, err := tls.X509KeyPair([]byte(e.Certificate), []byte(e.Key))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	pool := x509.NewCertPool()
	if e.Authority != "" && !pool.AppendCertsFromPEM([]byte(e.Authority)) {
		return nil, errors.New("no certificate in the authority")
	}
	config.RootCAs, config.ClientCAs = pool, pool
	if e.Mutual {
		config.ClientAuth = dtls.RequireAndVerifyClientCert
	}
	return config, nil
}

// peer keeps the connections that commands made, by the numbers it gave them.
type peer struct {
	mutex    sync.Mutex
	out      *json.Encoder
	next     int
	conns    map[int]net.Conn
	failures []string
}

func (p *peer) keep(conn net.Conn) int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.next++
	p.conns[p.next] = conn
	return p.next
}

func (p *peer) conn(number int) (net.Conn, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if conn, ok := p.conns[number]; ok {
		return conn, nil
	}
	return nil, fmt.Errorf("there is no connection %d", number)
}

func (p *peer) answer(id int, said reply, err error) {
	if said == nil {
		said = reply{}
	}
	said["id"], said["ok"] = id, err == nil
	if err != nil {
		said["kind"], said["error"] = kind(err), err.Error()
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if err := p.out.Encode(said); err != nil {
		os.Exit(1)
	}
}

func kind(err error) string {
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return "Timeout"
	}
	return "Error"
}

func (p *peer) run(do string, e *end) (reply, error) {
	switch do {
	case "listen":
		return p.listen(e)
	case "dial":
		return p.dial(e)
	case "send":
		return p.send(e)
	case "receive":
		return p.receive(e)
	case "close":
		conn, err := p.conn(e.Conn)
		if err != nil {
			return nil, err
		}
		return nil, conn.Close()
	case "failures":
		p.mutex.Lock()
		defer p.mutex.Unlock()
		return reply{"failures": append([]string{}, p.failures...)}, nil
	}
	return nil, fmt.Errorf("there is no command %q", do)
}

// listen serves: each datagram is sent back.
func (p *peer) listen(e *end) (reply, error) {
	config, err := e.config()
	if err != nil {
		return nil, err
	}
	listener, err := dtls.Listen("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, config)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.echo(conn)
		}
	}()
	return reply{"port": listener.Addr().(*net.UDPAddr).Port}, nil
}

func (p *peer) echo(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, largest)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			p.mutex.Lock()
			p.failures = append(p.failures, err.Error())
			p.mutex.Unlock()
			return
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *peer) dial(e *end) (reply, error) {
	config, err := e.config()
	if err != nil {
		return nil, err
	}
	conn, err := dtls.Dial("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: e.Port}, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(e.Seconds)*time.Second)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return reply{"conn": p.keep(conn)}, nil
}

func (p *peer) send(e *end) (reply, error) {
	conn, err := p.conn(e.Conn)
	if err != nil {
		return nil, err
	}
	_, err = conn.Write(e.Data)
	return nil, err
}

func (p *peer) receive(e *end) (reply, error) {
	conn, err := p.conn(e.Conn)
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Duration(e.Seconds) * time.Second)); err != nil {
		return nil, err
	}
	buffer := make([]byte, largest)
	n, err := conn.Read(buffer)
	if err != nil {
		return nil, err
	}
	return reply{"data": buffer[:n]}, nil
}

func main() {
	life := flag.Duration("life", 5*time.Minute, "the longest that this program runs")
	flag.Parse()
	time.AfterFunc(*life, func() { os.Exit(3) })
	p := &peer{out: json.NewEncoder(os.Stdout), conns: map[int]net.Conn{}}
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var head struct {
			ID int    `json:"id"`
			Do string `json:"do"`
		}
		var parameters end
		if json.Unmarshal(line, &head) != nil || json.Unmarshal(line, &parameters) != nil {
			os.Exit(2)
		}
		go func() {
			said, err := p.run(head.Do, &parameters)
			p.answer(head.ID, said, err)
		}()
	}
}
