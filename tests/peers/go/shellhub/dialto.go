package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	multistream "github.com/multiformats/go-multistream"
)

const (
	protocolOpen  = "/ssh/open/1.0.0"
	protocolClose = "/ssh/close/1.0.0"
	protocolProxy = "/http/proxy/1.0.0"
	replyLimit    = 512
)

type dialling struct {
	device
	Target  string `json:"target"`  // "open", "close", "proxy", or "" for a bare connection
	Session string `json:"session"` // of "open" and "close"
	Request string `json:"request"` // of "proxy", with
	Host    string `json:"host"`
	Port    any    `json:"port"` // a number; a text is said as it is
}

// through is a connection that is read through what was read too far.
type through struct {
	net.Conn
	reader io.Reader
}

func (t through) Read(into []byte) (int, error) {
	return t.reader.Read(into)
}

// dialTo reaches a device and asks it for a target, all within the deadline, which is lifted then.
func dialTo(p *peer, how dialling) (reply, error) {
	s, err := p.hosting()
	if err != nil {
		return nil, err
	}
	if how.Tenant == "" || how.UID == "" {
		return nil, errInvalidArgument
	}
	ctx, cancel := context.WithTimeout(context.Background(), how.duration())
	defer cancel()
	conn, version, err := s.open(ctx, how.key())
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(how.duration()))
	prepared, err := conn, error(nil)
	switch {
	case how.Target == "":
	case version == 1:
		prepared, err = how.askV1(conn)
	default:
		prepared, err = how.askV2(conn, *s.settings().DropLF)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = prepared.SetDeadline(time.Time{})
	return reply{"conn": p.keepConn(prepared), "version": version}, nil
}

func (d dialling) askV1(conn net.Conn) (net.Conn, error) {
	method, path := http.MethodGet, "/ssh/"+d.Session
	switch d.Target {
	case "open":
	case "close":
		path = "/ssh/close/" + d.Session
	case "proxy":
		method, path = http.MethodConnect, fmt.Sprintf("/http/proxy/%s:%v", d.Host, d.Port)
	default:
		return nil, fmt.Errorf("there is no target %q", d.Target)
	}
	request, err := http.NewRequest(method, path, nil)
	if err != nil {
		return nil, err
	}
	if err := request.Write(conn); err != nil || d.Target != "proxy" {
		return conn, err
	}
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, replyLimit))
		return nil, refused{fmt.Sprintf("%s: %s", answer.Status, said)}
	}
	return through{conn, reader}, nil
}

func (d dialling) askV2(conn net.Conn, dropped bool) (net.Conn, error) {
	protocols := map[string]string{"open": protocolOpen, "close": protocolClose, "proxy": protocolProxy}
	protocol, ok := protocols[d.Target]
	if !ok {
		return nil, fmt.Errorf("there is no target %q", d.Target)
	}
	if err := multistream.SelectProtoOrFail(protocol, conn); err != nil {
		return nil, err
	}
	var envelope any = map[string]string{"id": d.Session}
	if d.Target == "proxy" {
		envelope = map[string]any{"id": d.Request, "host": d.Host, "port": d.Port}
		if port, isNumber := d.Port.(float64); isNumber {
			envelope = map[string]string{"id": d.Request, "host": d.Host, "port": fmt.Sprint(int(port))}
		}
	}
	if err := json.NewEncoder(conn).Encode(envelope); err != nil || d.Target != "proxy" {
		return conn, err
	}
	answer := map[string]string{}
	decoder := json.NewDecoder(io.LimitReader(conn, replyLimit))
	if err := decoder.Decode(&answer); err != nil {
		return nil, err
	}
	if answer["status"] != "ok" {
		// The genuine server reports "message" alone; the test wants to know what the device said.
		return nil, refused{fmt.Sprintf("message %q, error %q", answer["message"], answer["error"])}
	}
	if dropped {
		return conn, nil
	}
	return through{conn, io.MultiReader(decoder.Buffered(), conn)}, nil
}
