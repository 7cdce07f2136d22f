// Go's net/http over HTTP/2 without TLS, as a server and as a client.
//
// usage: http2 serve          prints "port N", and serves until its input ends
//
//	http2 drive PORT N   makes N requests at once, and prints what happened as JSON
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

func main() {
	switch os.Args[1] {
	case "serve":
		serve()
	case "drive":
		drive(os.Args[2], os.Args[3])
	}
}

func protocols() *http.Protocols {
	only := new(http.Protocols)
	only.SetUnencryptedHTTP2(true)
	return only
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A server: /sum answers with the hash of the body, /echo with the body as it comes and a trailer, /bytes with as many octets as
// asked for, /hints with interim responses, /hang not at all.
func serve() {
	mux := http.NewServeMux()
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		hash := sha256.New()
		n, err := io.Copy(hash, r.Body)
		if err != nil {
			return
		}
		w.Header().Set("X-Octets", strconv.FormatInt(n, 10))
		fmt.Fprint(w, hex.EncodeToString(hash.Sum(nil)))
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		hash := sha256.New()
		buffer := make([]byte, 32*1024)
		for {
			n, err := r.Body.Read(buffer)
			if n > 0 {
				hash.Write(buffer[:n])
				w.Write(buffer[:n])
				w.(http.Flusher).Flush()
			}
			if err != nil {
				break
			}
		}
		w.Header().Set("X-Sum", hex.EncodeToString(hash.Sum(nil)))
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		io.Copy(w, io.LimitReader(zeros{}, int64(n)))
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(103)
		fmt.Fprint(w, "hinted")
	})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	server := &http.Server{Handler: mux, Protocols: protocols()}
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		context, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Shutdown(context)
		os.Exit(0)
	}()
	server.Serve(listener)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type result struct {
	Good      int
	Trailers  int
	Errors    []string
	Cancelled int
	Seconds   float64
}

// A client: as many requests at once, each with a body of its own that the server is to echo; every tenth is cancelled in its middle.
func drive(port, count string) {
	n, err := strconv.Atoi(count)
	check(err)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols()}, Timeout: 20 * time.Second}
	var lock sync.Mutex
	var group sync.WaitGroup
	var all result
	begun := time.Now()
	for number := range n {
		group.Add(1)
		go func() {
			defer group.Done()
			good, trailer, cancelled, err := one(client, port, number)
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				all.Errors = append(all.Errors, err.Error())
			}
			all.Good += good
			all.Trailers += trailer
			all.Cancelled += cancelled
		}()
	}
	group.Wait()
	all.Seconds = time.Since(begun).Seconds()
	check(json.NewEncoder(os.Stdout).Encode(all))
}

func one(client *http.Client, port string, number int) (good, trailer, cancelled int, err error) {
	body := bytes.Repeat([]byte{byte(number)}, 1000+number*997%200000)
	context, cancel := context.WithCancel(context.Background())
	defer cancel()
	url := "http://127.0.0.1:" + port + "/echo"
	request, err := http.NewRequestWithContext(context, "POST", url, bytes.NewReader(body))
	if err != nil {
		return
	}
	response, err := client.Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	if number%10 == 9 {
		io.CopyN(io.Discard, response.Body, 10)
		cancel()
		return 0, 0, 1, nil
	}
	echoed, err := io.ReadAll(response.Body)
	if err != nil {
		return
	}
	if !bytes.Equal(echoed, body) {
		return 0, 0, 0, fmt.Errorf("request %d: %d octets came back of %d", number, len(echoed), len(body))
	}
	if response.Trailer.Get("X-Octets") == strconv.Itoa(len(body)) {
		trailer = 1
	}
	return 1, trailer, 0, nil
}
