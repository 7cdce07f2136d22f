package main

import (
	"io"
	"runtime"
	"sync"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"
)

const (
	batch        = 64 << 10 // octets that wait for the write under way before writers wait
	largeBuffer  = 64 << 10 // octets
	tunedWindow  = 1 << 20  // octets of a stream
	headerOctets = 12       // of a yamux frame
)

// tuned is whether this process does what an engineer would do who has measured: writes are joined, buffers are large and kept.
var tuned bool

// batched joins the writes that come while another one is under way.
type batched struct {
	io.ReadWriteCloser
	mutex   sync.Mutex
	changed *sync.Cond
	waiting []byte
	spare   []byte
	err     error
}

func newBatched(conn io.ReadWriteCloser) *batched {
	b := &batched{ReadWriteCloser: conn, waiting: make([]byte, 0, 2*batch), spare: make([]byte, 0, 2*batch)}
	b.changed = sync.NewCond(&b.mutex)
	go b.flush()
	return b
}

// Write keeps a copy.  A header whose payload follows in the next write does not wake the writer.
func (b *batched) Write(from []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for len(b.waiting) >= batch && b.err == nil {
		b.changed.Wait()
	}
	if b.err != nil {
		return 0, b.err
	}
	b.waiting = append(b.waiting, from...)
	if !payloadFollows(from) {
		b.changed.Broadcast()
	}
	return len(from), nil
}

func payloadFollows(from []byte) bool {
	return len(from) == headerOctets && from[0] == 0 && from[1] == 0 && from[8]|from[9]|from[10]|from[11] != 0
}

func (b *batched) Close() error {
	b.end(io.ErrClosedPipe)
	return b.ReadWriteCloser.Close()
}

func (b *batched) end(err error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.changed.Broadcast()
}

func (b *batched) flush() {
	for {
		b.mutex.Lock()
		for len(b.waiting) == 0 && b.err == nil {
			b.changed.Wait()
		}
		b.mutex.Unlock()
		runtime.Gosched() // who is ready to write as well does so now
		b.mutex.Lock()
		if b.err != nil {
			b.mutex.Unlock()
			return
		}
		out := b.waiting
		b.waiting, b.spare = b.spare[:0], nil
		b.changed.Broadcast()
		b.mutex.Unlock()
		_, err := b.ReadWriteCloser.Write(out)
		b.mutex.Lock()
		b.spare = out
		b.mutex.Unlock()
		if err != nil {
			b.end(err)
			return
		}
	}
}

// carried is a carrier as this process uses it.
func carried(conn io.ReadWriteCloser) io.ReadWriteCloser {
	if tuned {
		return newBatched(conn)
	}
	return conn
}

// sessionConfig is nil, for the default one, unless the process is tuned.
func sessionConfig() *yamux.Config {
	if !tuned {
		return nil
	}
	config := yamux.DefaultConfig()
	config.MaxStreamWindowSize = tunedWindow
	return config
}

func newDialer() websocket.Dialer {
	if !tuned {
		return websocket.Dialer{}
	}
	return websocket.Dialer{ReadBufferSize: largeBuffer, WriteBufferSize: 2 * largeBuffer}
}

func newUpgrader() websocket.Upgrader {
	if !tuned {
		return websocket.Upgrader{}
	}
	return websocket.Upgrader{ReadBufferSize: largeBuffer, WriteBufferSize: 2 * largeBuffer}
}

// copyBuffers are kept for copies between connections, and for httputil.ReverseProxy.
type copyBuffers struct{ pool sync.Pool }

var buffers = &copyBuffers{sync.Pool{New: func() any { piece := make([]byte, 32<<10); return &piece }}}

func (c *copyBuffers) Get() []byte      { return *c.pool.Get().(*[]byte) }
func (c *copyBuffers) Put(piece []byte) { c.pool.Put(&piece) }

// transfer copies to the end.
func transfer(to io.Writer, from io.Reader) error {
	if !tuned {
		_, err := io.Copy(to, from)
		return err
	}
	piece := buffers.Get()
	defer buffers.Put(piece)
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, piece)
	return err
}
