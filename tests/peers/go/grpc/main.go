// Both roles of gRPC, on google.golang.org/grpc: the service of tests/peers/_grpc.py, and a client of it.
//
// Standard input has one command per line, as JSON; each is answered by one line with the same id.  Messages are octets: the
// codec passes them on as they are.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const service = "/tunnelstack.test.Calls/"

// octets passes messages on unchanged.
type octets struct{}

func (octets) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (octets) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (octets) Name() string { return "proto" }

var cancelled atomic.Int64

// The service

func handle(_ any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	incoming, _ := metadata.FromIncomingContext(stream.Context())
	if values := incoming.Get("x-sent"); len(values) > 0 {
		if err := stream.SetHeader(metadata.Pairs("x-received", values[0])); err != nil {
			return err
		}
	}
	switch strings.TrimPrefix(name, service) {
	case "Unary":
		return unary(stream)
	case "ClientStream":
		return clientStream(stream)
	case "ServerStream":
		return serverStream(stream)
	case "Bidi":
		return bidi(stream)
	case "Hang":
		return hang(stream)
	}
	return status.Error(codes.Unimplemented, name)
}

func receive(stream interface{ RecvMsg(any) error }) ([]byte, error) {
	var message []byte
	err := stream.RecvMsg(&message)
	return message, err
}

func unary(stream grpc.ServerStream) error {
	message, err := receive(stream)
	if err != nil {
		return err
	}
	if text, found := strings.CutPrefix(string(message), "fail:"); found {
		stream.SetTrailer(metadata.Pairs("x-reason", "asked for"))
		return status.Error(codes.NotFound, text)
	}
	if string(message) == "deadline" {
		left := "none"
		if deadline, found := stream.Context().Deadline(); found {
			left = strconv.Itoa(int(time.Until(deadline).Milliseconds()))
		}
		message = []byte(left)
	}
	sum := sha256.Sum256(message)
	stream.SetTrailer(metadata.Pairs("x-sum", hex.EncodeToString(sum[:])))
	return stream.SendMsg(&message)
}

func clientStream(stream grpc.ServerStream) error {
	sum, count := sha256.New(), 0
	for {
		message, err := receive(stream)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		sum.Write(message)
		count++
	}
	answer := []byte(fmt.Sprintf("%d %x", count, sum.Sum(nil)))
	return stream.SendMsg(&answer)
}

func serverStream(stream grpc.ServerStream) error {
	request, err := receive(stream)
	if err != nil {
		return err
	}
	var count, size int
	if _, err := fmt.Sscanf(string(request), "%d %d", &count, &size); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	for number := range count {
		message := pattern(number, size)
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
	return nil
}

func bidi(stream grpc.ServerStream) error {
	for {
		message, err := receive(stream)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

func hang(stream grpc.ServerStream) error {
	message, err := receive(stream)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&message); err != nil {
		return err
	}
	<-stream.Context().Done()
	cancelled.Add(1)
	return status.FromContextError(stream.Context().Err()).Err()
}

// pattern gives the octets of one message of a stream.
func pattern(number, size int) []byte {
	message := make([]byte, size)
	for index := range message {
		message[index] = byte(index*7 + number)
	}
	return message
}

// Commands

type command struct {
	ID        int     `json:"id"`
	Do        string  `json:"do"`
	Address   string  `json:"address"`
	Authority string  `json:"authority"`
	Root      string  `json:"root"`
	Text      string  `json:"text"`
	Count     int     `json:"count"`
	Size      int     `json:"size"`
	Seconds   float64 `json:"seconds"`
}

type answer map[string]any

type peer struct {
	mutex      sync.Mutex
	out        *json.Encoder
	connection *grpc.ClientConn
}

func main() {
	life := flag.Duration("life", 5*time.Minute, "how long it runs at most")
	flag.Parse()
	encoding.RegisterCodec(octets{})
	time.AfterFunc(*life, func() { os.Exit(3) })
	p := &peer{out: json.NewEncoder(os.Stdout)}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		go p.execute(asked)
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
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if asked.Seconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(asked.Seconds*float64(time.Second)))
		defer cancel()
	}
	switch asked.Do {
	case "serve":
		return serve(asked.Count)
	case "cancelled":
		return answer{"count": cancelled.Load()}, nil
	case "dial":
		return nil, p.dial(asked)
	case "unary":
		return p.unary(ctx, asked.Text)
	case "client_stream":
		return p.clientStream(ctx, asked)
	case "server_stream":
		return p.serverStream(ctx, asked)
	case "bidi":
		return p.bidi(ctx, asked)
	case "hang":
		return p.hang(ctx, cancel)
	case "many":
		return p.many(ctx, asked)
	}
	return nil, errors.New("unknown command")
}

func serve(streams int) (answer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var options []grpc.ServerOption
	if streams > 0 {
		options = append(options, grpc.MaxConcurrentStreams(uint32(streams)))
	}
	options = append(options, grpc.UnknownServiceHandler(handle), grpc.MaxRecvMsgSize(1<<26))
	go grpc.NewServer(options...).Serve(listener)
	return answer{"port": listener.Addr().(*net.TCPAddr).Port}, nil
}

func (p *peer) dial(asked command) (err error) {
	secure := insecure.NewCredentials()
	if asked.Root != "" {
		pem, err := os.ReadFile(asked.Root)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		secure = credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: asked.Authority})
	}
	p.connection, err = grpc.NewClient(
		"passthrough:///"+asked.Address, grpc.WithTransportCredentials(secure), grpc.WithAuthority(asked.Authority),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<26)),
	)
	return err
}

func (p *peer) unary(ctx context.Context, text string) (answer, error) {
	request, response := []byte(text), []byte(nil)
	var header, trailer metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, "x-sent", "yes")
	err := p.connection.Invoke(ctx, service+"Unary", &request, &response, grpc.Header(&header), grpc.Trailer(&trailer))
	return answer{
		"text": string(response), "header": header.Get("x-received"), "trailer": trailer.Get("x-sum"),
		"reason": trailer.Get("x-reason"),
	}, err
}

func (p *peer) stream(ctx context.Context, method string) (grpc.ClientStream, error) {
	return p.connection.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, service+method)
}

func (p *peer) clientStream(ctx context.Context, asked command) (answer, error) {
	stream, err := p.stream(ctx, "ClientStream")
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	for number := range asked.Count {
		message := pattern(number, asked.Size)
		sum.Write(message)
		if err := stream.SendMsg(&message); err != nil {
			return nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	response, err := receive(stream)
	return answer{"text": string(response), "sum": fmt.Sprintf("%d %x", asked.Count, sum.Sum(nil))}, err
}

func (p *peer) serverStream(ctx context.Context, asked command) (answer, error) {
	stream, err := p.stream(ctx, "ServerStream")
	if err != nil {
		return nil, err
	}
	request := []byte(fmt.Sprintf("%d %d", asked.Count, asked.Size))
	if err := stream.SendMsg(&request); err != nil {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	count, good := 0, true
	for {
		message, err := receive(stream)
		if errors.Is(err, io.EOF) {
			return answer{"count": count, "good": good}, nil
		}
		if err != nil {
			return nil, err
		}
		good = good && string(message) == string(pattern(count, asked.Size))
		count++
	}
}

func (p *peer) bidi(ctx context.Context, asked command) (answer, error) {
	stream, err := p.stream(ctx, "Bidi")
	if err != nil {
		return nil, err
	}
	for number := range asked.Count {
		message := pattern(number, asked.Size)
		if err := stream.SendMsg(&message); err != nil {
			return nil, err
		}
		echo, err := receive(stream)
		if err != nil {
			return nil, err
		}
		if string(echo) != string(message) {
			return nil, errors.New("another message came back")
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	if _, err := receive(stream); !errors.Is(err, io.EOF) {
		return nil, err
	}
	return answer{"count": asked.Count}, nil
}

// hang begins a call, and cancels it after its first message.
func (p *peer) hang(ctx context.Context, cancel func()) (answer, error) {
	stream, err := p.stream(ctx, "Hang")
	if err != nil {
		return nil, err
	}
	request := []byte("go on")
	if err := stream.SendMsg(&request); err != nil {
		return nil, err
	}
	if _, err := receive(stream); err != nil {
		return nil, err
	}
	cancel()
	_, err = receive(stream)
	return answer{"code": status.Code(err).String()}, nil
}

// many makes so many unary calls at once.
func (p *peer) many(ctx context.Context, asked command) (answer, error) {
	var waiting sync.WaitGroup
	var good atomic.Int64
	failed := make(chan error, asked.Count)
	for number := range asked.Count {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			text := fmt.Sprintf("call %d", number)
			if said, err := p.unary(ctx, text); err != nil {
				failed <- err
			} else if said["text"] == text {
				good.Add(1)
			}
		}()
	}
	waiting.Wait()
	select {
	case err := <-failed:
		return answer{"good": good.Load()}, err
	default:
		return answer{"good": good.Load()}, nil
	}
}
