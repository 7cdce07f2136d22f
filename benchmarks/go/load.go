package main

import (
	"flag"
	"fmt"
	"net"
	"sort"
	"sync"
	"time"
)

const patience = 10 * time.Second // for the answer of a connection that is used once

// asking is one visitor: each call is a question whose answer was checked.
type asking interface{ ask() error }

// loadPart is the visitors: some connections that ask again and again, kept or new for every question.
func loadPart(arguments []string) error {
	var address, host, work string
	var connections, download, upload, count, size, window int
	var fresh, prepared bool
	var duration time.Duration
	options("load", arguments, func(f *flag.FlagSet) {
		f.StringVar(&address, "address", "", "host:port")
		f.StringVar(&work, "work", "http", "http, echo or datagrams")
		f.StringVar(&host, "host", "", "the Host header")
		f.IntVar(&connections, "connections", 32, "visitors at a time")
		f.BoolVar(&fresh, "new", false, "a connection for each request")
		f.BoolVar(&prepared, "prepared", false, "say so when all are connected and have had one answer, and begin after a pause")
		f.IntVar(&download, "download", 0, "octets to ask for")
		f.IntVar(&upload, "upload", 0, "octets to post")
		f.IntVar(&size, "size", 1200, "octets of a datagram")
		f.IntVar(&window, "window", 8, "datagrams of a visitor that are under way")
		f.IntVar(&count, "count", 0, "questions of each visitor; 0 is as many as fit into the duration")
		f.DurationVar(&duration, "duration", time.Second, "how long")
	})
	if work == "datagrams" {
		return datagramLoad(address, connections, size, window, count, duration)
	}
	begin := func() (asking, func(), error) {
		return beginEcho(address)
	}
	if work == "http" {
		request, expect := requestOf(host, fresh, download, upload)
		begin = func() (asking, func(), error) {
			v := &visitor{address: address, request: request, body: upload, expect: expect}
			if fresh {
				v.patience = patience
			}
			err := v.connect()
			if err != nil {
				return nil, nil, err
			}
			return v, func() { v.conn.Close() }, nil
		}
	}
	return askAll(begin, connections, count, fresh, prepared, duration)
}

func requestOf(host string, fresh bool, download, upload int) ([]byte, int) {
	end := "\r\nHost: " + host + "\r\nUser-Agent: load\r\nAccept: */*\r\n"
	if fresh {
		end += "Connection: close\r\n"
	}
	if download > 0 {
		return fmt.Appendf(nil, "GET /octets?count=%d HTTP/1.1%s\r\n", download, end), download
	}
	if upload > 0 {
		return fmt.Appendf(nil, "POST /sink HTTP/1.1%sContent-Length: %d\r\n\r\n", end, upload), -1
	}
	return []byte("GET / HTTP/1.1" + end + "\r\n"), len(greeting)
}

// askAll lets all visitors ask, and says how many answers there were and how long they took.
func askAll(begin func() (asking, func(), error), connections, count int, fresh, prepared bool, duration time.Duration) error {
	var workers, preparing sync.WaitGroup
	var mutex sync.Mutex
	var trips []float64
	var start time.Time
	failures, started := make(chan error, connections), make(chan struct{})
	for range connections {
		workers.Add(1)
		preparing.Add(1)
		go func() {
			defer workers.Done()
			one := &regular{begin: begin, fresh: fresh}
			var err error
			if prepared {
				err = one.visit()
			}
			preparing.Done()
			<-started
			for asked := 0; err == nil && (count == 0 && time.Since(start) < duration || asked < count); asked++ {
				began := time.Now()
				if err = one.visit(); err == nil {
					one.trips = append(one.trips, time.Since(began).Seconds())
				}
			}
			if err != nil {
				failures <- err
			}
			mutex.Lock()
			trips = append(trips, one.trips...)
			mutex.Unlock()
		}()
	}
	preparing.Wait()
	if prepared {
		say(map[string]any{"prepared": connections})
		time.Sleep(pause)
	}
	start = time.Now()
	close(started)
	workers.Wait()
	took := time.Since(start).Seconds()
	select {
	case err := <-failures:
		return err
	default:
	}
	result := map[string]any{"count": len(trips), "seconds": took}
	if len(trips) > 0 {
		sort.Float64s(trips)
		result["p50"], result["p99"] = trips[len(trips)/2], trips[len(trips)*99/100]
	}
	say(result)
	return nil
}

// regular is a visitor that comes again and again, by the same connection or by a new one.
type regular struct {
	begin func() (asking, func(), error)
	fresh bool
	conn  asking
	end   func()
	trips []float64
}

func (r *regular) visit() (err error) {
	if r.conn == nil {
		if r.conn, r.end, err = r.begin(); err != nil {
			return err
		}
	}
	if err = r.conn.ask(); err == nil && r.fresh {
		r.end()
		r.conn = nil
	}
	return err
}

// echoing is a connection that sends back what comes.
type echoing struct {
	conn        net.Conn
	piece, back []byte
}

func beginEcho(address string) (asking, func(), error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	e := &echoing{conn, make([]byte, question), make([]byte, question)}
	return e, func() { conn.Close() }, nil
}

func (e *echoing) ask() error { return asked(e.conn, e.piece, e.back) }
