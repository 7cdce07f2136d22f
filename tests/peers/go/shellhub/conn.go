package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net"
	"time"
)

const block = 64 << 10 // octets of one Read or Write

type ofConn struct {
	waiting
	Conn int `json:"conn"`
}

type reading struct {
	ofConn
	Count int `json:"count"` // exactly so many octets; 0 is everything up to the end
}

// read gives what came; "end" names what stopped it short, and is empty when nothing did.
func read(p *peer, how reading) (reply, error) {
	conn, err := p.conn(how.Conn)
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(how.duration()))
	data, end := []byte{}, ""
	if how.Count > 0 {
		data = make([]byte, how.Count)
		count, err := io.ReadFull(conn, data)
		data = data[:count]
		if err != nil {
			end = kind(err)
		}
	} else {
		data, err = io.ReadAll(conn)
		end = "EOF"
		if err != nil {
			end = kind(err)
		}
	}
	_ = conn.SetReadDeadline(time.Time{})
	return reply{"data": data, "end": end}, nil
}

type writing struct {
	ofConn
	Data []byte `json:"data"` // base64
}

func write(p *peer, how writing) (reply, error) {
	conn, err := p.conn(how.Conn)
	if err != nil {
		return nil, err
	}
	count, err := conn.Write(how.Data)
	return reply{"count": count}, err
}

func closeConn(p *peer, how ofConn) (reply, error) {
	conn, err := p.conn(how.Conn)
	if err != nil {
		return nil, err
	}
	return nil, conn.Close()
}

type bulk struct {
	ofConn
	Octets int64 `json:"octets"`
}

func measured(octets int64, sum hash.Hash, start time.Time) reply {
	return reply{"octets": octets, "sha256": hex.EncodeToString(sum.Sum(nil)), "seconds": time.Since(start).Seconds()}
}

// send writes random octets and gives their checksum.
func send(p *peer, how bulk) (reply, error) {
	conn, err := p.conn(how.Conn)
	if err != nil {
		return nil, err
	}
	sum, start := sha256.New(), time.Now()
	random := io.LimitReader(io.TeeReader(rand.Reader, sum), how.Octets)
	count, err := io.CopyBuffer(struct{ io.Writer }{conn}, random, make([]byte, block))
	return measured(count, sum, start), err
}

// receive reads so many octets and gives their checksum.
func receive(p *peer, how bulk) (reply, error) {
	conn, err := p.conn(how.Conn)
	if err != nil {
		return nil, err
	}
	sum, start := sha256.New(), time.Now()
	_ = conn.SetReadDeadline(time.Now().Add(how.duration()))
	count, err := io.CopyBuffer(sum, io.LimitReader(conn, how.Octets), make([]byte, block))
	if err == nil && count < how.Octets {
		err = io.ErrUnexpectedEOF
	}
	return measured(count, sum, start), err
}

type echoing struct {
	First []byte `json:"first"` // base64; said before anything is read
}

// startEcho is a TCP server for the far end of a proxy: it echoes, and closes where its peer does.
func startEcho(p *peer, how echoing) (reply, error) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := port.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := conn.Write(how.First); err == nil {
					_, _ = io.Copy(conn, conn)
				}
			}()
		}
	}()
	return reply{"port": port.Addr().(*net.TCPAddr).Port}, nil
}
