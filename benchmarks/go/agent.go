package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/yamux"
	multistream "github.com/multiformats/go-multistream"
)

const atOnce = 20 // agents that dial at a time

// agentPart joins each stream of its edge to a connection to the origin.
func agentPart(arguments []string) error {
	var edge, token, host, origin string
	var count int
	options("agent", arguments, func(f *flag.FlagSet) {
		f.StringVar(&edge, "edge", "", "host:port")
		f.StringVar(&token, "token", "", "to show")
		f.StringVar(&host, "host", "", "the public host to serve")
		f.StringVar(&origin, "origin", "", "host:port")
		f.IntVar(&count, "count", 1, "agents in this process, each with a host of its own")
	})
	var dialling sync.WaitGroup
	var next atomic.Int64
	failures := make(chan error, atOnce)
	for range min(atOnce, count) {
		dialling.Add(1)
		go func() {
			defer dialling.Done()
			for number := next.Add(1) - 1; number < int64(count); number = next.Add(1) - 1 {
				name := host
				if number > 0 {
					name = fmt.Sprintf("%d.%s", number, host)
				}
				if err := connectAgent(edge, token, name, origin); err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	dialling.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	say(map[string]any{"agents": count})
	untilStdinEnds()
	return nil
}

func connectAgent(edge, token, host, origin string) error {
	header := http.Header{"Authorization": {"Bearer " + token}, "X-Host": {host}}
	conn, err := reach("ws", edge, door, "", header)
	if err != nil {
		return err
	}
	session, err := yamux.Server(conn, sessionConfig())
	if err != nil {
		return err
	}
	go serveEdge(session, origin)
	return nil
}

func serveEdge(session *yamux.Session, origin string) {
	mux := multistream.NewMultistreamMuxer[string]()
	mux.AddHandler(httpProtocol, func(_ string, stream io.ReadWriteCloser) error { return join(stream, "tcp", origin) })
	mux.AddHandler(udpProtocol, func(_ string, stream io.ReadWriteCloser) error { return join(stream, "udp", origin) })
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return
		}
		go func() {
			defer stream.Close()
			_ = mux.Handle(stream)
		}()
	}
}

// join reads the line, and copies both ways between the stream and a socket of its own.
func join(stream io.ReadWriteCloser, network, origin string) error {
	reader := bufio.NewReader(stream)
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return err
	}
	var wanted target
	if err := json.Unmarshal(line, &wanted); err != nil {
		return err
	}
	conn, err := net.Dial(network, origin)
	if err != nil {
		return err
	}
	defer conn.Close()
	if network == "udp" {
		go func() {
			_ = packDatagrams(stream, conn)
			stream.Close()
		}()
		return unpackDatagrams(conn, reader)
	}
	go func() {
		_ = transfer(stream, conn)
		stream.Close()
	}()
	return transfer(conn, reader)
}
