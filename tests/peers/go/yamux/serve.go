package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	multistream "github.com/multiformats/go-multistream"
)

// result is what became of one stream that a handler served.
type result struct {
	Protocol  string `json:"protocol"`
	In        int64  `json:"in"` // octets the handler read
	Out       int64  `json:"out"`
	SHA256In  string `json:"sha256_in"`
	SHA256Out string `json:"sha256_out"`
	End       string `json:"end"` // the kind of the error it ended with; empty is a good end
}

// results grow as handlers end.
type results struct {
	mutex sync.Mutex
	grown *sync.Cond
	all   []result
}

func (r *results) init() {
	r.grown = sync.NewCond(&r.mutex)
}

func (r *results) add(one result) {
	r.mutex.Lock()
	r.all = append(r.all, one)
	r.mutex.Unlock()
	r.grown.Broadcast()
}

func (r *results) count() int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return len(r.all)
}

// counted is a stream that remembers how much went through it, and its checksums.
type counted struct {
	io.ReadWriteCloser
	in, out       int64
	sumIn, sumOut hash.Hash
}

func (c *counted) Read(into []byte) (int, error) {
	count, err := c.ReadWriteCloser.Read(into)
	c.in += int64(count)
	c.sumIn.Write(into[:count])
	return count, err
}

func (c *counted) Write(from []byte) (int, error) {
	count, err := c.ReadWriteCloser.Write(from)
	c.out += int64(count)
	c.sumOut.Write(from[:count])
	return count, err
}

// handlers are what a stream can be for. Each returns when it is done; the stream is closed then.
var handlers = map[string]func(io.ReadWriter) error{
	"echo":   echo,
	"sink":   sink,
	"source": source,
	"upper":  upper,
	"hold":   hold,
}

func echo(stream io.ReadWriter) error {
	_, err := io.Copy(stream, stream)
	return err
}

// sink reads to the end, then answers with one line: octets and SHA-256.
func sink(stream io.ReadWriter) error {
	sum := sha256.New()
	count, err := io.CopyBuffer(sum, stream, make([]byte, defaultBlock))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stream, "%d %s\n", count, hex.EncodeToString(sum.Sum(nil)))
	return err
}

// source reads one line with a number and sends so many random octets.
func source(stream io.ReadWriter) error {
	line, err := bufio.NewReader(stream).ReadString('\n')
	if err != nil {
		return err
	}
	octets, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{stream}, io.LimitReader(newRandom(), octets), make([]byte, defaultBlock))
	return err
}

// upper answers only after the end of the question: it needs half-close.
func upper(stream io.ReadWriter) error {
	question, err := io.ReadAll(stream)
	if err != nil {
		return err
	}
	_, err = stream.Write(bytes.ToUpper(question))
	return err
}

// hold reads nothing until the stream or its session is gone.
func hold(stream io.ReadWriter) error {
	time.Sleep(time.Hour)
	return nil
}

func (s *session) handle(protocol, name string, stream io.ReadWriteCloser) {
	watched := &counted{ReadWriteCloser: stream, sumIn: sha256.New(), sumOut: sha256.New()}
	one := result{Protocol: protocol}
	if err := handlers[name](watched); err != nil {
		one.End = kind(err)
	}
	if err := watched.Close(); err != nil && one.End == "" {
		one.End = kind(err)
	}
	one.In, one.Out = watched.in, watched.out
	one.SHA256In, one.SHA256Out = hex.EncodeToString(watched.sumIn.Sum(nil)), hex.EncodeToString(watched.sumOut.Sum(nil))
	s.done.add(one)
}

// responder is a multistream mux whose handlers only note their name: the caller goes on with the stream.
func responder(protocols map[string]string) (*multistream.MultistreamMuxer[string], error) {
	mux := multistream.NewMultistreamMuxer[string]()
	for protocol, name := range protocols {
		if _, ok := handlers[name]; !ok {
			return nil, fmt.Errorf("there is no handler %q", name)
		}
		mux.AddHandler(protocol, nil)
	}
	return mux, nil
}

type serving struct {
	Session   int               `json:"session"`
	Raw       string            `json:"raw"`       // a handler for streams without negotiation, or
	Protocols map[string]string `json:"protocols"` // protocol names and the handler of each
}

// serve accepts every stream of the session from now on.
func serve(p *peer, how serving) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	if _, ok := handlers[how.Raw]; how.Raw != "" && !ok {
		return nil, fmt.Errorf("there is no handler %q", how.Raw)
	}
	mux, err := responder(how.Protocols)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			stream, err := s.mux.AcceptStream()
			if err != nil {
				return
			}
			go s.take(stream, how, mux)
		}
	}()
	return nil, nil
}

func (s *session) take(stream *yamux.Stream, how serving, mux *multistream.MultistreamMuxer[string]) {
	if how.Raw != "" {
		s.handle("", how.Raw, stream)
		return
	}
	protocol, _, err := mux.Negotiate(stream)
	if err != nil {
		stream.Close()
		s.done.add(result{End: kind(err)})
		return
	}
	s.handle(protocol, how.Protocols[protocol], stream)
}

type handling struct {
	ofSession
	Count int `json:"count"`
}

// handled waits until so many streams were served, and tells of all.
func handled(p *peer, how handling) (reply, error) {
	s, err := p.session(how.Session)
	if err != nil {
		return nil, err
	}
	expired := false
	go func() {
		<-how.after()
		s.done.mutex.Lock()
		expired = true
		s.done.mutex.Unlock()
		s.done.grown.Broadcast()
	}()
	s.done.mutex.Lock()
	defer s.done.mutex.Unlock()
	for len(s.done.all) < how.Count && !expired {
		s.done.grown.Wait()
	}
	if len(s.done.all) < how.Count {
		return reply{"handled": s.done.all}, yamux.ErrTimeout
	}
	return reply{"handled": s.done.all}, nil
}
