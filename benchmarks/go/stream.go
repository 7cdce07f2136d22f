package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
	multistream "github.com/multiformats/go-multistream"
)

const (
	question = 64                     // octets of an echo
	pause    = 300 * time.Millisecond // between two phases, so that whoever measures can read what the first one used
)

var errDiffers = errors.New("what came back is not what was sent")

// serverPart accepts sessions and serves /sink, /echo and /hold on their streams.
func serverPart(arguments []string) error {
	var carrier, certificate, key string
	options("server", arguments, func(f *flag.FlagSet) {
		f.StringVar(&carrier, "carrier", "tcp", "tcp, ws or wss")
		f.StringVar(&certificate, "certificate", "", "PEM, for wss")
		f.StringVar(&key, "key", "", "PEM, for wss")
	})
	mux := multistream.NewMultistreamMuxer[string]()
	mux.AddHandler("/sink", func(_ string, stream io.ReadWriteCloser) error { return sink(stream) })
	mux.AddHandler("/echo", func(_ string, stream io.ReadWriteCloser) error { return echo(stream) })
	mux.AddHandler("/hold", func(_ string, stream io.ReadWriteCloser) error { return hold(stream) })
	go func() {
		err := await(carrier, certificate, key, func(conn io.ReadWriteCloser) {
			session, err := yamux.Server(conn, sessionConfig())
			if err != nil {
				return
			}
			for {
				stream, err := session.AcceptStream()
				if err != nil {
					return
				}
				go func() {
					if err := mux.Handle(stream); err != nil {
						stream.Close()
					}
				}()
			}
		})
		fmt.Fprintln(os.Stderr, "bench server:", err)
		os.Exit(1)
	}()
	untilStdinEnds()
	return nil
}

// sink counts to the end, and answers with the count.
func sink(stream io.ReadWriteCloser) error {
	buffer, count := make([]byte, block), 0
	for {
		got, err := stream.Read(buffer)
		count += got
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(stream, "%d\n", count)
	return stream.Close()
}

func echo(stream io.ReadWriteCloser) error {
	if _, err := io.Copy(stream, stream); err != nil {
		return err
	}
	return stream.Close()
}

// hold echoes with the smallest buffer there is, and stays.
func hold(stream io.ReadWriteCloser) error {
	buffer := make([]byte, question)
	for {
		count, err := stream.Read(buffer)
		if err != nil {
			return stream.Close()
		}
		if _, err := stream.Write(buffer[:count]); err != nil {
			return err
		}
	}
}

func openStream(session *yamux.Session, protocol string) (*yamux.Stream, error) {
	stream, err := session.OpenStream()
	if err != nil {
		return nil, err
	}
	return stream, multistream.SelectProtoOrFail(protocol, stream)
}

// clientPart does one piece of work over one session and says what it measured.
func clientPart(arguments []string) error {
	var carrier, address, certificate, work string
	var octets, parallel, count, questions int
	var duration time.Duration
	options("client", arguments, func(f *flag.FlagSet) {
		f.StringVar(&carrier, "carrier", "tcp", "tcp, ws or wss")
		f.StringVar(&address, "address", "", "host:port of the server")
		f.StringVar(&certificate, "certificate", "", "PEM, for wss")
		f.StringVar(&work, "work", "bulk", "bulk, rpc, beside, churn or many")
		f.IntVar(&octets, "octets", 0, "of bulk")
		f.IntVar(&parallel, "parallel", 1, "streams at a time, of churn; streams that ask, of many")
		f.IntVar(&count, "count", 0, "streams, of many")
		f.IntVar(&questions, "questions", 0, "of all streams together, of many")
		f.DurationVar(&duration, "duration", time.Second, "of rpc, beside and churn")
	})
	conn, err := reach(carrier, address, "/", certificate, nil)
	if err != nil {
		return err
	}
	session, err := yamux.Client(conn, sessionConfig())
	if err != nil {
		return err
	}
	var result map[string]any
	before := processorTime()
	switch work {
	case "bulk":
		result, err = bulk(session, octets)
	case "rpc":
		result, err = rpc(session, duration)
	case "beside":
		result, err = besideBulk(session, duration)
	case "churn":
		result, err = churn(session, parallel, duration)
	case "many":
		return many(session, count, parallel, questions)
	default:
		err = fmt.Errorf("there is no work %q", work)
	}
	if err != nil {
		return err
	}
	result["processor"] = processorTime() - before
	say(result)
	return nil
}

// bulk writes octets into a sink, 64 KiB at a time, and waits for its count.
func bulk(session *yamux.Session, octets int) (map[string]any, error) {
	stream, err := openStream(session, "/sink")
	if err != nil {
		return nil, err
	}
	piece := make([]byte, block)
	_, _ = rand.Read(piece)
	start := time.Now()
	for left := octets; left > 0; left -= block {
		if _, err := stream.Write(piece[:min(block, left)]); err != nil {
			return nil, err
		}
	}
	if err := stream.Close(); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(stream)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(answer)) != fmt.Sprint(octets) {
		return nil, errDiffers
	}
	return map[string]any{"seconds": time.Since(start).Seconds()}, nil
}

// asked sends the question and checks that it comes back.
func asked(stream io.ReadWriter, piece, back []byte) error {
	if _, err := stream.Write(piece); err != nil {
		return err
	}
	if _, err := io.ReadFull(stream, back); err != nil {
		return err
	}
	if !bytes.Equal(piece, back) {
		return errDiffers
	}
	return nil
}

// rpc asks on one stream, again and again.
func rpc(session *yamux.Session, duration time.Duration) (map[string]any, error) {
	stream, err := openStream(session, "/echo")
	if err != nil {
		return nil, err
	}
	piece, back := make([]byte, question), make([]byte, question)
	_, _ = rand.Read(piece)
	var trips []float64
	for end := time.Now().Add(duration); time.Now().Before(end); {
		start := time.Now()
		if err := asked(stream, piece, back); err != nil {
			return nil, err
		}
		trips = append(trips, time.Since(start).Seconds())
	}
	sort.Float64s(trips)
	return map[string]any{"p50": trips[len(trips)/2], "p99": trips[len(trips)*99/100], "count": len(trips)}, nil
}

// besideBulk is rpc while another stream of the session is saturated.
func besideBulk(session *yamux.Session, duration time.Duration) (map[string]any, error) {
	stream, err := openStream(session, "/sink")
	if err != nil {
		return nil, err
	}
	var stop atomic.Bool
	var written int
	saturated := make(chan error, 1)
	go func() {
		piece := make([]byte, block)
		for !stop.Load() {
			count, err := stream.Write(piece)
			written += count
			if err != nil {
				saturated <- err
				return
			}
		}
		saturated <- stream.Close()
	}()
	start := time.Now()
	result, err := rpc(session, duration)
	if err != nil {
		return nil, err
	}
	took := time.Since(start).Seconds()
	stop.Store(true)
	if err := <-saturated; err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(stream)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(answer)) != fmt.Sprint(written) {
		return nil, errDiffers
	}
	result["octets"], result["seconds"] = written, took
	return result, nil
}

// churn opens, negotiates, asks once and closes, over and over, some at a time, until every stream has ended at both sides.
func churn(session *yamux.Session, parallel int, duration time.Duration) (map[string]any, error) {
	var workers sync.WaitGroup
	var done atomic.Int64
	failures := make(chan error, parallel)
	start := time.Now()
	end := start.Add(duration)
	for range parallel {
		workers.Add(1)
		go func() {
			defer workers.Done()
			piece, back := make([]byte, question), make([]byte, question)
			_, _ = rand.Read(piece)
			for time.Now().Before(end) {
				if err := once(session, piece, back); err != nil {
					failures <- err
					return
				}
				done.Add(1)
			}
		}()
	}
	workers.Wait()
	select {
	case err := <-failures:
		return nil, err
	default:
	}
	for session.NumStreams() > 0 { // the last closes count as well
		time.Sleep(time.Millisecond)
	}
	return map[string]any{"count": done.Load(), "seconds": time.Since(start).Seconds()}, nil
}

func once(session *yamux.Session, piece, back []byte) error {
	muxed, err := session.OpenStream()
	if err != nil {
		return err
	}
	stream := multistream.NewMSSelect(muxed, "/echo") // the question leaves with the proposal, as on our side
	if err := asked(stream, piece, back); err != nil {
		return err
	}
	return stream.Close()
}

// many opens streams, each of which has its answer once, and says so.  Then some of them ask so many questions, and all stay.
func many(session *yamux.Session, count, parallel, questions int) error {
	before := processorTime()
	piece, back := make([]byte, question), make([]byte, question)
	var streams []io.ReadWriter
	for range count {
		stream, err := openStream(session, "/hold")
		if err != nil {
			return err
		}
		if err := asked(stream, piece, back); err != nil {
			return err
		}
		streams = append(streams, stream)
	}
	say(map[string]any{"streams": count, "processor": processorTime() - before})
	if questions > 0 {
		time.Sleep(pause)
		before, start := processorTime(), time.Now()
		if err := askTogether(streams[:parallel], questions); err != nil {
			return err
		}
		say(map[string]any{"seconds": time.Since(start).Seconds(), "processor": processorTime() - before})
	}
	untilStdinEnds()
	return nil
}

// askTogether lets all streams ask at the same time, each its share of the questions.
func askTogether(streams []io.ReadWriter, questions int) error {
	failures := make(chan error, len(streams))
	for _, stream := range streams {
		go func() {
			piece, back := make([]byte, question), make([]byte, question)
			var err error
			for left := questions / len(streams); left > 0 && err == nil; left-- {
				err = asked(stream, piece, back)
			}
			failures <- err
		}()
	}
	for range streams {
		if err := <-failures; err != nil {
			return err
		}
	}
	return nil
}
