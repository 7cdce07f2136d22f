package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"time"

	"github.com/hashicorp/yamux"
)

const defaultBlock = 64 << 10 // octets of one Read or Write

func open(p *peer, how ofSession) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	type opening struct {
		stream *yamux.Stream
		err    error
	}
	opened := make(chan opening, 1)
	go func() {
		stream, err := s.mux.OpenStream()
		opened <- opening{stream, err}
	}()
	select {
	case o := <-opened:
		if o.err != nil {
			return nil, o.err
		}
		return p.keepStream(o.stream), nil
	case <-how.after():
		return nil, yamux.ErrTimeout
	}
}

func accept(p *peer, how ofSession) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	limit, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-how.after():
			cancel()
		case <-limit.Done():
		}
	}()
	stream, err := s.mux.AcceptStreamWithContext(limit)
	if err == context.Canceled {
		return nil, yamux.ErrTimeout
	}
	if err != nil {
		return nil, err
	}
	return p.keepStream(stream), nil
}

type ofStream struct {
	Stream int `json:"stream"`
}

type reading struct {
	ofStream
	waiting
	Count int `json:"count"` // exactly so many octets; 0 is everything up to the end
}

// read gives what came; "end" names what stopped it short (EOF is the peer's FIN), and is empty when nothing did.
func read(p *peer, how reading) (reply, error) {
	stream, err := p.stream(how.Stream)
	if err != nil {
		return nil, err
	}
	if muxed, ok := stream.(*yamux.Stream); ok && how.Timeout > 0 {
		_ = muxed.SetReadDeadline(time.Now().Add(seconds(how.Timeout)))
		defer muxed.SetReadDeadline(time.Time{})
	}
	data, end := []byte{}, ""
	if how.Count > 0 {
		data = make([]byte, how.Count)
		count, err := io.ReadFull(stream, data)
		data = data[:count]
		if err != nil {
			end = kind(err)
		}
	} else {
		data, err = io.ReadAll(stream)
		end = "EOF"
		if err != nil {
			end = kind(err)
		}
	}
	return reply{"data": data, "end": end}, nil
}

type writing struct {
	ofStream
	Data []byte `json:"data"` // base64
}

func write(p *peer, how writing) (reply, error) {
	stream, err := p.stream(how.Stream)
	if err != nil {
		return nil, err
	}
	count, err := stream.Write(how.Data)
	return reply{"count": count}, err
}

func closeStream(p *peer, how ofStream) (reply, error) {
	stream, err := p.stream(how.Stream)
	if err != nil {
		return nil, err
	}
	return nil, stream.Close()
}

// random is an endless source: a random block whose first octets count, so that two blocks that change places are noticed.
type random struct {
	block   []byte
	counter uint64
	offset  int
}

func newRandom() *random {
	block := make([]byte, 1<<20)
	_, _ = rand.Read(block)
	return &random{block: block}
}

func (r *random) Read(into []byte) (int, error) {
	if r.offset == 0 {
		r.counter++
		binary.BigEndian.PutUint64(r.block, r.counter)
	}
	count := copy(into, r.block[r.offset:])
	r.offset = (r.offset + count) % len(r.block)
	return count, nil
}

// measured is what bulk transfers report.
func measured(octets int64, sum hash.Hash, start time.Time) reply {
	return reply{"octets": octets, "sha256": hex.EncodeToString(sum.Sum(nil)), "seconds": time.Since(start).Seconds()}
}

type bulk struct {
	ofStream
	Octets int64   `json:"octets"` // 0 receives up to the end
	Block  int     `json:"block"`  // octets of one Read or Write
	Pause  float64 `json:"pause"`  // seconds between two
	First  float64 `json:"first"`  // seconds before the first
}

func (b bulk) buffer() []byte {
	if b.Block == 0 {
		return make([]byte, defaultBlock)
	}
	return make([]byte, b.Block)
}

// send writes random octets and gives their checksum; it does not close the stream.
func send(p *peer, how bulk) (reply, error) {
	stream, err := p.stream(how.Stream)
	if err != nil {
		return nil, err
	}
	source, sum, buffer, start := newRandom(), sha256.New(), how.buffer(), time.Now()
	var sent int64
	for sent < how.Octets {
		piece := buffer[:min(int64(len(buffer)), how.Octets-sent)]
		_, _ = io.ReadFull(source, piece)
		count, err := stream.Write(piece)
		sum.Write(piece[:count])
		sent += int64(count)
		if err != nil {
			return measured(sent, sum, start), err
		}
		time.Sleep(seconds(how.Pause))
	}
	return measured(sent, sum, start), nil
}

// receive reads up to a number of octets or the end, as slowly as it is told, and gives their checksum.
func receive(p *peer, how bulk) (reply, error) {
	stream, err := p.stream(how.Stream)
	if err != nil {
		return nil, err
	}
	time.Sleep(seconds(how.First))
	sum, buffer, start := sha256.New(), how.buffer(), time.Now()
	var got int64
	for how.Octets == 0 || got < how.Octets {
		piece := buffer
		if how.Octets > 0 {
			piece = buffer[:min(int64(len(buffer)), how.Octets-got)]
		}
		count, err := stream.Read(piece)
		sum.Write(piece[:count])
		got += int64(count)
		if err == io.EOF && how.Octets == 0 {
			break
		}
		if err != nil {
			return measured(got, sum, start), err
		}
		time.Sleep(seconds(how.Pause))
	}
	return measured(got, sum, start), nil
}
