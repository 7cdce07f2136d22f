package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"time"

	multistream "github.com/multiformats/go-multistream"
)

var errDiffers = errors.New("what came back is not what was sent")

type driving struct {
	Session  int     `json:"session"`
	Streams  int     `json:"streams"`
	Octets   int     `json:"octets"`   // of each stream's random block
	Protocol string  `json:"protocol"` // agreed by multistream first, if any
	Together bool    `json:"together"` // no stream is closed before all have had their echo
	Timeout  float64 `json:"timeout"`
}

// drive opens many streams at once; each sends a random block to an echo, ends its direction and checks what comes back.
func drive(p *peer, how driving) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	var all, echoed sync.WaitGroup
	var mutex sync.Mutex
	kinds, good, most, start := map[string]int{}, 0, 0, time.Now()
	all.Add(how.Streams)
	echoed.Add(how.Streams)
	for range how.Streams {
		go func() {
			defer all.Done()
			err := one(s, how, func() {
				echoed.Done()
				if how.Together {
					echoed.Wait()
				}
				mutex.Lock()
				most = max(most, s.mux.NumStreams())
				mutex.Unlock()
			})
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				kinds[kind(err)]++
			} else {
				good++
			}
		}()
	}
	all.Wait()
	return reply{"good": good, "errors": kinds, "most": most, "seconds": time.Since(start).Seconds()}, nil
}

// one is a single stream of drive; it calls full once, when its echo is whole or cannot become so.
func one(s *session, how driving, full func()) error {
	full = sync.OnceFunc(full)
	defer full()
	stream, err := s.mux.OpenStream()
	if err != nil {
		return err
	}
	defer stream.Close()
	if how.Timeout > 0 {
		_ = stream.SetDeadline(time.Now().Add(seconds(how.Timeout)))
	}
	if how.Protocol != "" {
		if err := multistream.SelectProtoOrFail(how.Protocol, stream); err != nil {
			return err
		}
	}
	block, back, written := make([]byte, how.Octets), make([]byte, how.Octets), make(chan error, 1)
	_, _ = rand.Read(block)
	go func() {
		_, err := stream.Write(block)
		written <- err
	}()
	if _, err := io.ReadFull(stream, back); err != nil {
		return err
	}
	if err := <-written; err != nil {
		return err
	}
	sent, came := sha256.Sum256(block), sha256.Sum256(back)
	if !bytes.Equal(sent[:], came[:]) {
		return errDiffers
	}
	full()
	if err := stream.Close(); err != nil {
		return err
	}
	if rest, err := io.ReadAll(stream); err != nil {
		return err
	} else if len(rest) > 0 {
		return errDiffers
	}
	return nil
}
