package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
)

const (
	udpProtocol = "/bench/udp/1.0.0"
	waiting     = 64      // datagrams of a flow that wait for its stream; further ones are dropped
	largest     = 1 << 16 // octets of a datagram
)

// publishTCP gives each connection to a new port a stream to the agent of a host.
func publishTCP(known *agents, host string) (int, error) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			go serveConnection(known, host, conn.(*net.TCPConn))
		}
	}()
	return socket.Addr().(*net.TCPAddr).Port, nil
}

func serveConnection(known *agents, host string, conn *net.TCPConn) {
	defer conn.Close()
	stream, err := dialAgent(known, host, httpProtocol)
	if err != nil {
		return
	}
	ended := make(chan struct{})
	go func() {
		_ = transfer(stream, conn)
		stream.Close() // of this direction only, as yamux has it
		close(ended)
	}()
	_ = transfer(conn, stream)
	_ = conn.CloseWrite()
	<-ended
}

// publishUDP gives the datagrams of each address and port that sends to a new port a stream to the agent of a host.
func publishUDP(known *agents, host string) (int, error) {
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	go receiveDatagrams(known, host, socket)
	return socket.LocalAddr().(*net.UDPAddr).Port, nil
}

// flows are the datagrams that wait, by their sender.
type flows struct {
	mutex    sync.Mutex
	bySender map[netip.AddrPort]chan []byte
}

func receiveDatagrams(known *agents, host string, socket *net.UDPConn) {
	all := &flows{bySender: map[netip.AddrPort]chan []byte{}}
	piece := make([]byte, largest)
	for {
		count, sender, err := socket.ReadFromUDPAddrPort(piece)
		if err != nil {
			return
		}
		all.mutex.Lock()
		flow := all.bySender[sender]
		if flow == nil {
			flow = make(chan []byte, waiting)
			all.bySender[sender] = flow
			go all.serve(known, host, socket, sender, flow)
		}
		all.mutex.Unlock()
		select {
		case flow <- packed(piece[:count]):
		default:
		}
	}
}

func (f *flows) serve(known *agents, host string, socket *net.UDPConn, sender netip.AddrPort, flow chan []byte) {
	defer func() {
		f.mutex.Lock()
		delete(f.bySender, sender)
		f.mutex.Unlock()
	}()
	stream, err := dialAgent(known, host, udpProtocol)
	if err != nil {
		return
	}
	defer stream.Close()
	go func() { _ = unpackDatagrams(toSender{socket, sender}, bufio.NewReaderSize(stream, largest)) }()
	for datagram := range flow {
		for tuned && len(flow) > 0 && len(datagram) < block { // one write for all that wait
			datagram = append(datagram, <-flow...)
		}
		if _, err := stream.Write(datagram); err != nil {
			return
		}
	}
}

// toSender writes datagrams to one address.
type toSender struct {
	socket *net.UDPConn
	sender netip.AddrPort
}

func (t toSender) Write(from []byte) (int, error) { return t.socket.WriteToUDPAddrPort(from, t.sender) }

// packed is a datagram as a stream has it: the number of its octets, in two of network order, and they themselves.
func packed(datagram []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(datagram)), uint16(len(datagram))), datagram...)
}

// packDatagrams writes each datagram of a socket to a stream.
func packDatagrams(stream io.Writer, socket io.Reader) error {
	piece := make([]byte, largest)
	for {
		count, err := socket.Read(piece[2:])
		if err != nil {
			return err
		}
		binary.BigEndian.PutUint16(piece, uint16(count))
		if _, err := stream.Write(piece[:2+count]); err != nil {
			return err
		}
	}
}

// unpackDatagrams sends each datagram of a stream.
func unpackDatagrams(to io.Writer, stream *bufio.Reader) error {
	piece := make([]byte, largest)
	for {
		var length [2]byte
		if _, err := io.ReadFull(stream, length[:]); err != nil {
			return err
		}
		datagram := piece[:binary.BigEndian.Uint16(length[:])]
		if _, err := io.ReadFull(stream, datagram); err != nil {
			return err
		}
		if _, err := to.Write(datagram); err != nil {
			return err
		}
	}
}
