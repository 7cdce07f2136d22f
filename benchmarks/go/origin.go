package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
)

const (
	httpProtocol = "/bench/http/1.0.0"
	door         = "/agent"
	greeting     = "Hello world\n" // what the origin answers: 12 octets
)

// originPart answers 12 octets; /octets?count=N answers N, and what is posted to /sink is counted.  Two further ports send back
// what comes: one for connections, and one for datagrams.
func originPart([]string) error {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, greeting) })
	mux.HandleFunc("/octets", func(w http.ResponseWriter, r *http.Request) {
		count, err := strconv.ParseInt(r.URL.Query().Get("count"), 10, 64)
		if err != nil {
			http.Error(w, "how many?", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(count, 10))
		w.Header().Set("Content-Type", "application/octet-stream")
		piece := make([]byte, block)
		for ; count > 0; count -= block {
			if _, err := w.Write(piece[:min(block, count)]); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/sink", func(w http.ResponseWriter, r *http.Request) {
		count, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, block))
		if err == nil {
			fmt.Fprint(w, count)
		}
	})
	echoes, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	datagrams, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(socket, mux) }()
	go echoConnections(echoes)
	go echoDatagrams(datagrams)
	say(map[string]any{
		"http": socket.Addr().(*net.TCPAddr).Port,
		"tcp":  echoes.Addr().(*net.TCPAddr).Port,
		"udp":  datagrams.LocalAddr().(*net.UDPAddr).Port,
	})
	untilStdinEnds()
	return nil
}

func echoConnections(socket net.Listener) {
	for {
		conn, err := socket.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			piece := make([]byte, block)
			for {
				count, err := conn.Read(piece)
				if err != nil {
					return
				}
				if _, err := conn.Write(piece[:count]); err != nil {
					return
				}
			}
		}()
	}
}

func echoDatagrams(socket *net.UDPConn) {
	piece := make([]byte, largest)
	for {
		count, sender, err := socket.ReadFromUDPAddrPort(piece)
		if err != nil {
			return
		}
		_, _ = socket.WriteToUDPAddrPort(piece[:count], sender)
	}
}
