package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/labstack/echo/v4"
)

const greeting = "SSH-2.0-Go\r\n"

// converse is the device's end of a session: its SSH server, or an echo that greets as one.
func (a *agent) converse(id string, conn net.Conn) {
	a.mutex.Lock()
	a.sessions[id] = conn
	a.mutex.Unlock()
	if a.sshd != nil {
		a.sshd.serve(conn)
		return
	}
	if _, err := io.WriteString(conn, greeting+a.how.Name); err == nil {
		_, _ = io.Copy(conn, conn)
	}
}

// end closes a session, which stays known only until then.
func (a *agent) end(id string) {
	a.mutex.Lock()
	conn, ok := a.sessions[id]
	delete(a.sessions, id)
	a.mutex.Unlock()
	if ok {
		conn.Close()
	}
}

func (a *agent) openV2(_ string, stream io.ReadWriteCloser) error {
	defer stream.Close()
	said, err := headers(stream)
	if err != nil {
		return err
	}
	conn, ok := stream.(net.Conn)
	if !ok {
		return errors.New("the stream is no connection")
	}
	a.converse(said["id"], conn)
	return nil
}

func (a *agent) closeV2(_ string, stream io.ReadWriteCloser) error {
	defer stream.Close()
	said, err := headers(stream)
	if err != nil {
		return err
	}
	a.end(said["id"])
	return nil
}

// proxyV2 leaves the stream open after an error, as the genuine one does.
func (a *agent) proxyV2(_ string, stream io.ReadWriteCloser) error {
	said, err := headers(stream)
	if err != nil {
		return err
	}
	answer := json.NewEncoder(stream)
	target, err := net.Dial("tcp", net.JoinHostPort(said["host"], said["port"]))
	if err != nil {
		return answer.Encode(map[string]string{"error": "failed to dial to the address and port"})
	}
	defer target.Close()
	if err := answer.Encode(map[string]string{"status": "ok"}); err != nil {
		return err
	}
	splice(stream, target)
	return nil
}

// splice copies both ways, and the first end ends both: there is no half-close.
func splice(one, other io.ReadWriteCloser) {
	var both sync.WaitGroup
	both.Add(2)
	for _, way := range [][2]io.ReadWriteCloser{{one, other}, {other, one}} {
		go func() {
			defer both.Done()
			_, _ = io.Copy(way[0], way[1])
			one.Close()
			other.Close()
		}()
	}
	both.Wait()
}

func (a *agent) openV1(c echo.Context) error {
	hijacker, ok := c.Response().Writer.(http.Hijacker)
	if !ok {
		return c.String(http.StatusInternalServerError, "webserver doesn't support hijacking")
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return c.String(http.StatusInternalServerError, "failed to hijack connection")
	}
	defer conn.Close()
	a.converse(c.Param("id"), c.Request().Context().Value(connKey{}).(net.Conn))
	return nil
}

func (a *agent) closeV1(c echo.Context) error {
	a.end(c.Param("id"))
	return nil
}

func (a *agent) proxyV1(c echo.Context) error {
	host, port, err := net.SplitHostPort(c.Param("addr"))
	if err != nil {
		return c.String(http.StatusInternalServerError, "failed because address is invalid")
	}
	target, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return c.String(http.StatusInternalServerError, "failed to connect to the server on device")
	}
	if err := c.NoContent(http.StatusOK); err != nil {
		return err
	}
	conn, _, err := http.NewResponseController(c.Response()).Hijack()
	if err != nil {
		return err
	}
	splice(conn, target)
	return nil
}
