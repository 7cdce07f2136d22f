// Streams of google.golang.org/grpc whose messages a test chooses, in both roles: what Jetty's agent and edge are made of.
//
// Standard input has one command per line, as JSON; each is answered by one line with the same id, when it has its result.
// Messages are octets: the codec passes them on as they are.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// octets passes messages on unchanged.
type octets struct{}

func (octets) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (octets) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (octets) Name() string { return "proto" }

type command struct {
	ID       int               `json:"id"`
	Do       string            `json:"do"`
	Address  string            `json:"address"`
	Method   string            `json:"method"`
	Metadata map[string]string `json:"metadata"`
	Stream   int               `json:"stream"`
	Data     []byte            `json:"data"`
	Count    int               `json:"count"`
	Code     int               `json:"code"`
	Text     string            `json:"text"`
	Strict   bool              `json:"strict"`
}

type answer map[string]any

// call is a stream of either role.
type call struct {
	stream interface {
		SendMsg(any) error
		RecvMsg(any) error
	}
	method   string
	incoming metadata.MD
	cancel   context.CancelFunc
	result   chan error
}

type peer struct {
	mutex      sync.Mutex
	out        *json.Encoder
	connection *grpc.ClientConn
	server     *grpc.Server
	calls      map[int]*call
	arrived    chan int
}

func main() {
	life := flag.Duration("life", 5*time.Minute, "how long it runs at most")
	flag.Parse()
	encoding.RegisterCodec(octets{})
	time.AfterFunc(*life, func() { os.Exit(3) })
	p := &peer{out: json.NewEncoder(os.Stdout), calls: map[int]*call{}, arrived: make(chan int, 1024)}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<26)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if asked.Do == "send" {
			p.execute(asked)
		} else {
			go p.execute(asked)
		}
	}
}

func (p *peer) execute(asked command) {
	said, err := p.do(asked)
	if said == nil {
		said = answer{}
	}
	said["id"], said["ok"] = asked.ID, err == nil
	if err != nil {
		said["kind"], said["error"] = status.Code(err).String(), status.Convert(err).Message()
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.out.Encode(said)
}

func (p *peer) do(asked command) (answer, error) {
	switch asked.Do {
	case "dial":
		return nil, p.dial(asked.Address)
	case "serve":
		return p.serve(asked.Strict)
	case "open":
		return p.open(asked)
	case "accept":
		number := <-p.arrived
		c := p.find(number)
		return answer{"stream": number, "method": c.method, "metadata": c.incoming}, nil
	case "stop":
		p.server.GracefulStop()
		return nil, nil
	}
	c := p.find(asked.Stream)
	if c == nil {
		return nil, errors.New("there is no such stream")
	}
	switch asked.Do {
	case "send":
		return nil, c.stream.SendMsg(&asked.Data)
	case "flood":
		for range asked.Count {
			if err := c.stream.SendMsg(&asked.Data); err != nil {
				return nil, err
			}
		}
		return nil, nil
	case "receive":
		var message []byte
		err := c.stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			return answer{"end": true}, nil
		}
		return answer{"data": message}, err
	case "close":
		return nil, c.stream.(grpc.ClientStream).CloseSend()
	case "finish":
		c.result <- status.Error(codes.Code(asked.Code), asked.Text)
		return nil, nil
	case "cancel":
		c.cancel()
		return nil, nil
	}
	return nil, errors.New("unknown command")
}

func (p *peer) find(number int) *call {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.calls[number]
}

func (p *peer) add(c *call) int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	number := len(p.calls) + 1
	p.calls[number] = c
	return number
}

func (p *peer) dial(address string) (err error) {
	p.connection, err = grpc.NewClient(
		"passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
	)
	return err
}

func (p *peer) open(asked command) (answer, error) {
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(context.Background(), metadata.New(asked.Metadata)))
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := p.connection.NewStream(ctx, description, asked.Method)
	if err != nil {
		cancel()
		return nil, err
	}
	return answer{"stream": p.add(&call{stream: stream, method: asked.Method, cancel: cancel})}, nil
}

func (p *peer) serve(strict bool) (answer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	options := []grpc.ServerOption{grpc.UnknownServiceHandler(p.handle)}
	if !strict {
		policy := keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}
		options = append(options, grpc.KeepaliveEnforcementPolicy(policy))
	}
	p.server = grpc.NewServer(options...)
	go p.server.Serve(listener)
	return answer{"port": listener.Addr().(*net.TCPAddr).Port}, nil
}

func (p *peer) handle(_ any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	incoming, _ := metadata.FromIncomingContext(stream.Context())
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	c := &call{stream: stream, method: name, incoming: incoming, cancel: cancel, result: make(chan error, 1)}
	p.arrived <- p.add(c)
	select {
	case err := <-c.result:
		return err
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
