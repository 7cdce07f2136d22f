package main

import (
	"io"
	"net"
	"sync"
	"time"

	"tunnelstack.test/peers/godoxy/protocol"
)

const largest = 65535 // octets of one datagram

// serveStream handles one connection whose ALPN is that of streams. As in the original, a direction that ends is not passed on:
// the connections are closed when both have ended.
func (a *agent) serveStream(conn net.Conn) {
	a.opened(conn)
	defer a.closed(conn)
	block := make([]byte, protocol.HeaderSize)
	conn.SetReadDeadline(time.Now().Add(protocol.HeaderTimeout))
	if _, err := io.ReadFull(conn, block); err != nil {
		a.note("tcp: no header: %v", err)
		return
	}
	conn.SetReadDeadline(time.Time{})
	found, err := protocol.Unmarshal(block)
	if err != nil {
		a.note("tcp: %v", err)
		return
	}
	if found.IsProbe() {
		a.note("tcp: probe")
		return
	}
	far, err := net.DialTimeout("tcp", net.JoinHostPort(found.Host, found.Port), protocol.DialTimeout)
	if err != nil {
		a.note("tcp: %v", err)
		return
	}
	defer far.Close()
	a.note("tcp: %s", net.JoinHostPort(found.Host, found.Port))
	var both sync.WaitGroup
	both.Add(2)
	go func() { defer both.Done(); io.Copy(far, conn) }()
	go func() { defer both.Done(); io.Copy(conn, far) }()
	both.Wait()
}

func (a *agent) serveDatagrams() {
	for {
		conn, err := a.udp.Accept()
		if err != nil {
			return
		}
		go a.serveFlow(conn)
	}
}

// serveFlow handles one DTLS session: a header in its first records, then one datagram a record.
func (a *agent) serveFlow(conn net.Conn) {
	a.opened(conn)
	defer a.closed(conn)
	conn.SetReadDeadline(time.Now().Add(protocol.HeaderTimeout))
	block, err := a.readHeader(conn)
	if err != nil {
		a.note("udp: no header: %v", err)
		return
	}
	conn.SetReadDeadline(time.Time{})
	found, err := protocol.Unmarshal(block)
	if err != nil {
		a.note("udp: %v", err)
		return
	}
	if found.IsProbe() {
		a.note("udp: probe")
		return
	}
	far, err := net.Dial("udp", net.JoinHostPort(found.Host, found.Port))
	if err != nil {
		a.note("udp: %v", err)
		return
	}
	defer far.Close()
	a.note("udp: %s", net.JoinHostPort(found.Host, found.Port))
	go func() {
		buffer := make([]byte, largest)
		for {
			n, err := far.Read(buffer)
			if err != nil {
				return // for good, as in the original
			}
			if _, err := conn.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, largest)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if n > 0 {
			if _, err := far.Write(buffer[:n]); err != nil {
				a.note("udp: %v", err)
				return
			}
		}
	}
}

func (a *agent) readHeader(conn net.Conn) ([]byte, error) {
	block := make([]byte, 0, protocol.HeaderSize)
	buffer := make([]byte, largest)
	for len(block) < protocol.HeaderSize {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		if a.losesHeader(n) {
			continue
		}
		if len(block)+n > protocol.HeaderSize {
			return nil, io.ErrShortBuffer
		}
		block = append(block, buffer[:n]...)
	}
	return block, nil
}

// losesHeader reports whether this record is to be treated as one that the network has lost.
func (a *agent) losesHeader(n int) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if n != protocol.HeaderSize || a.lost >= a.settings.LoseHeaders {
		return false
	}
	a.lost++
	return true
}
