package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// visitor is a raw HTTP/1.1 client: one connection, one request at a time.
type visitor struct {
	address  string
	request  []byte
	body     int           // octets that follow the head
	expect   int           // octets of the response's body; -1 is the count of what was sent
	patience time.Duration // of a connection, if it is not 0
	conn     net.Conn
	reader   *bufio.Reader
}

func (v *visitor) connect() (err error) {
	if v.conn, err = net.Dial("tcp", v.address); err != nil {
		return err
	}
	v.reader = bufio.NewReaderSize(v.conn, block)
	if v.patience > 0 {
		err = v.conn.SetDeadline(time.Now().Add(v.patience))
	}
	return err
}

// ask sends the request and checks status, length and, of a short answer, every octet.
func (v *visitor) ask() error {
	if _, err := v.conn.Write(v.request); err != nil {
		return err
	}
	written := make(chan error, 1)
	if v.body > 0 {
		go func() { written <- v.upload() }()
	} else {
		written <- nil
	}
	length, err := v.head()
	if err != nil {
		return err
	}
	if v.expect > len(greeting) {
		if length != v.expect {
			return fmt.Errorf("%d octets came instead of %d", length, v.expect)
		}
		rest := io.LimitReader(v.reader, int64(length))
		got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, rest, make([]byte, block))
		if err == nil && got < int64(length) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(v.reader, body); err != nil {
		return err
	}
	want := greeting
	if v.expect < 0 {
		want = strconv.Itoa(v.body)
	}
	if string(body) != want {
		return errDiffers
	}
	return <-written
}

func (v *visitor) upload() error {
	piece := make([]byte, block)
	for left := v.body; left > 0; left -= block {
		if _, err := v.conn.Write(piece[:min(block, left)]); err != nil {
			return err
		}
	}
	return nil
}

// head reads a response's head and gives the length of its body.
func (v *visitor) head() (int, error) {
	line, err := v.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		return 0, fmt.Errorf("the answer was %q", line)
	}
	length := -1
	for {
		line, err := v.reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, errors.New("the answer has no length")
	}
	return length, nil
}
