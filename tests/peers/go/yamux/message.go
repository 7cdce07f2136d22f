package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gorilla/websocket"
)

// webSocket gives the carrier of a session that has role "none" and a WebSocket under it.
func (p *peer) webSocket(number int) (*webSocketConn, error) {
	s, err := p.session(number)
	if err != nil {
		return nil, err
	}
	if conn, ok := s.carrier.(*webSocketConn); ok {
		return conn, nil
	}
	return nil, errors.New("the carrier is no WebSocket")
}

type messaging struct {
	Session int    `json:"session"`
	Type    string `json:"type"` // "binary", "text", "ping", "pong" or "close"
	Code    int    `json:"code"` // of a Close
	Data    []byte `json:"data"` // base64; the reason of a Close
	waiting
}

// message sends one message or control frame as it is.
func message(p *peer, how messaging) (reply, error) {
	conn, err := p.webSocket(how.Session)
	if err != nil {
		return nil, err
	}
	soon := time.Now().Add(time.Second)
	switch how.Type {
	case "binary":
		_, err = conn.Write(how.Data)
	case "text":
		err = conn.WriteMessage(websocket.TextMessage, how.Data)
	case "ping":
		err = conn.WriteControl(websocket.PingMessage, how.Data, soon)
	case "pong":
		err = conn.WriteControl(websocket.PongMessage, how.Data, soon)
	case "close":
		err = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(how.Code, string(how.Data)), soon)
	default:
		err = fmt.Errorf("there is no type %q", how.Type)
	}
	return nil, err
}

// nextMessage reads one whole message.
func nextMessage(p *peer, how ofSession) (reply, error) {
	conn, err := p.webSocket(how.Session)
	if err != nil {
		return nil, err
	}
	pongs := 0
	conn.SetPongHandler(func(data string) error {
		pongs++
		return nil
	})
	kind, data, err := conn.ReadMessage()
	if err != nil {
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			return reply{"type": "close", "code": closed.Code, "reason": closed.Text}, nil
		}
		return nil, err
	}
	names := map[int]string{websocket.TextMessage: "text", websocket.BinaryMessage: "binary"}
	return reply{"type": names[kind], "data": data, "pongs": pongs}, nil
}

// drop ends the connection without a word.
func drop(p *peer, how ofSession) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	if conn, ok := s.carrier.(*webSocketConn); ok {
		return nil, conn.Conn.Close()
	}
	return nil, s.carrier.(io.Closer).Close()
}
