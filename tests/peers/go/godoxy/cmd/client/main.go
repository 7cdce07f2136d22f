// Program client is the edge's side of GoDoxy's streams: crypto/tls and pion/dtls with the settings of the genuine program,
// and the protocol on top.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/pion/dtls/v3"

	"tunnelstack.test/peers/godoxy/driver"
	"tunnelstack.test/peers/godoxy/protocol"
)

const largest = 65535 // octets of one datagram

var conns driver.Table[net.Conn]

// header is a block to be sent: that of a destination, or any octets.
type header struct {
	Host  string `json:"host"`
	Port  string `json:"destination"`
	Flags byte   `json:"flags"`
	Raw   []byte `json:"raw"`
}

func (h header) octets() ([]byte, error) {
	if h.Raw != nil {
		return h.Raw, nil
	}
	return protocol.Header{Host: h.Host, Port: h.Port, Flags: h.Flags}.Marshal()
}

// dial is where an agent is, and how it is dialled.
type dial struct {
	protocol.Certificates
	header
	Agent      int      `json:"agent"` // its port
	Name       string   `json:"name"`
	ALPN       []string `json:"alpn"`
	Version    uint16   `json:"version"` // of TLS, if only one is allowed
	Seconds    int      `json:"seconds"`
	WithHeader bool     `json:"withHeader"`
	Data       []byte   `json:"data"` // what follows the header, in the same write
}

func (d *dial) name() string {
	if d.Name == "" {
		return protocol.ServerName
	}
	return d.Name
}

func (d *dial) context() (context.Context, context.CancelFunc) {
	timeout := protocol.DialTimeout
	if d.Seconds > 0 {
		timeout = time.Duration(d.Seconds) * time.Second
	}
	return context.WithTimeout(context.Background(), timeout)
}

// first are the octets that a stream begins with.
func (d *dial) first() ([]byte, error) {
	if !d.WithHeader {
		return d.Data, nil
	}
	block, err := d.octets()
	return append(block, d.Data...), err
}

func (d *dial) tls() (*tls.Conn, error) {
	config, err := d.TLSClient(d.name(), d.ALPN)
	if err != nil {
		return nil, err
	}
	if d.Version != 0 {
		config.MinVersion, config.MaxVersion = d.Version, d.Version
	}
	ctx, cancel := d.context()
	defer cancel()
	address := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: d.Agent}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address.String())
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// tcp opens a stream, and sends its header.
func tcp(d *dial) (driver.Reply, error) {
	conn, err := d.tls()
	if err != nil {
		return nil, err
	}
	octets, err := d.first()
	if err == nil && len(octets) > 0 {
		_, err = conn.Write(octets)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	state := conn.ConnectionState()
	return driver.Reply{"conn": conns.Keep(conn), "alpn": state.NegotiatedProtocol, "version": state.Version}, nil
}

func (d *dial) dtls() (*dtls.Conn, error) {
	config, err := d.DTLSClient(d.name())
	if err != nil {
		return nil, err
	}
	conn, err := dtls.Dial("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: d.Agent}, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := d.context()
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// udp opens a session, and sends its header as a record of its own.
func udp(d *dial) (driver.Reply, error) {
	conn, err := d.dtls()
	if err != nil {
		return nil, err
	}
	octets, err := d.first()
	if err == nil && len(octets) > 0 {
		_, err = conn.Write(octets)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return driver.Reply{"conn": conns.Keep(conn)}, nil
}

// many opens count sessions side by side; each sends a datagram and waits for its echo, and all stay open until all have it.
func many(d *struct {
	dial
	Count int `json:"count"`
}) (driver.Reply, error) {
	began := time.Now()
	errs, echoed, finish := make(chan error, d.Count), make(chan bool, d.Count), make(chan bool)
	for number := range d.Count {
		go func() { errs <- persistent(&d.dial, byte(number), echoed, finish) }()
	}
	good, bad := 0, ""
	for range d.Count {
		select {
		case <-echoed:
			good++
		case err := <-errs:
			bad = err.Error()
		}
	}
	seconds := time.Since(began).Seconds()
	close(finish)
	return driver.Reply{"good": good, "bad": bad, "seconds": seconds}, nil
}

// persistent begins a new session if one ends before anything has come back: nothing protects a header that is lost.
func persistent(d *dial, number byte, echoed chan<- bool, finish <-chan bool) error {
	for range 2 {
		if err := one(d, number, echoed, finish); driver.Kind(err) != "EOF" {
			return err
		}
	}
	return one(d, number, echoed, finish)
}

func one(d *dial, number byte, echoed chan<- bool, finish <-chan bool) error {
	conn, err := d.dtls()
	if err != nil {
		return err
	}
	defer conn.Close()
	block, err := d.octets()
	if err != nil {
		return err
	}
	if _, err := conn.Write(block); err != nil {
		return err
	}
	question := []byte{number, byte(len(block))}
	buffer := make([]byte, largest)
	for { // what is sent before the destination is connected, or is lost, is sent again
		if _, err := conn.Write(question); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		n, err := conn.Read(buffer)
		if driver.Kind(err) == "Timeout" {
			continue
		}
		if err != nil {
			return err
		}
		if string(buffer[:n]) != string(question) {
			return errors.New("another echo")
		}
		break
	}
	echoed <- true
	<-finish
	return nil
}

// transfer is what is sent or received on a connection.
type transfer struct {
	Conn    int    `json:"conn"`
	Data    []byte `json:"data"`
	Least   int    `json:"least"` // octets to wait for; 0 for one read
	Seconds int    `json:"seconds"`
}

func send(t *transfer) (driver.Reply, error) {
	conn, err := conns.Find(t.Conn)
	if err != nil {
		return nil, err
	}
	_, err = conn.Write(t.Data)
	return nil, err
}

// receive reads once, or until it has least octets or the stream ends.  "ended" is how it ended: "" if it did not.
func receive(t *transfer) (driver.Reply, error) {
	conn, err := conns.Find(t.Conn)
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Duration(t.Seconds) * time.Second)); err != nil {
		return nil, err
	}
	buffer, data, ended := make([]byte, largest), []byte{}, ""
	for {
		n, err := conn.Read(buffer)
		data = append(data, buffer[:n]...)
		if err != nil {
			ended = driver.Kind(err)
			if ended == "Error" {
				ended = err.Error()
			}
			break
		}
		if len(data) >= t.Least {
			break
		}
	}
	return driver.Reply{"data": data, "ended": ended}, nil
}

func closeWrite(t *transfer) (driver.Reply, error) {
	conn, err := conns.Find(t.Conn)
	if err != nil {
		return nil, err
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return nil, errors.New("it has no half-close")
	}
	return nil, half.CloseWrite()
}

func closeConn(t *transfer) (driver.Reply, error) {
	conn, err := conns.Find(t.Conn)
	if err != nil {
		return nil, err
	}
	return nil, conn.Close()
}

// request is one request to the HTTPS API, as the genuine program sends it: without ALPN unless it is given.
type request struct {
	dial
	Method string            `json:"method"`
	Path   string            `json:"path"`
	Host   string            `json:"requestHost"`
	Fields map[string]string `json:"fields"`
}

func get(r *request) (driver.Reply, error) {
	config, err := r.TLSClient(r.name(), r.ALPN)
	if err != nil {
		return nil, err
	}
	address := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: r.Agent}
	transport := &http.Transport{
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&tls.Dialer{Config: config}).DialContext(ctx, network, address.String())
		},
		DisableKeepAlives: true,
	}
	ctx, cancel := r.context()
	defer cancel()
	method := r.Method
	if method == "" {
		method = "GET"
	}
	out, err := http.NewRequestWithContext(ctx, method, "https://"+protocol.ServerName+r.Path, strings.NewReader(string(r.Data)))
	if err != nil {
		return nil, err
	}
	if r.Host != "" {
		out.Host = r.Host
	}
	for name, value := range r.Fields {
		out.Header.Set(name, value)
	}
	in, err := transport.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	defer in.Body.Close()
	body, err := io.ReadAll(in.Body)
	return driver.Reply{"status": in.StatusCode, "fields": in.Header, "data": body}, err
}

func encode(h *header) (driver.Reply, error) {
	block, err := h.octets()
	return driver.Reply{"data": block}, err
}

func decode(h *header) (driver.Reply, error) {
	read, err := protocol.Unmarshal(h.Raw)
	return driver.Reply{"host": []byte(read.Host), "destination": []byte(read.Port), "flags": read.Flags}, err
}

func main() {
	os.Unsetenv("SSL_CERT_FILE")
	driver.Main(driver.Commands{
		"tcp": driver.Command(tcp), "udp": driver.Command(udp), "many": driver.Command(many),
		"send": driver.Command(send), "receive": driver.Command(receive),
		"closeWrite": driver.Command(closeWrite), "close": driver.Command(closeConn),
		"get": driver.Command(get), "encode": driver.Command(encode), "decode": driver.Command(decode),
	})
}
