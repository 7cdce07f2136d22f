package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const lostAfter = 200 * time.Millisecond // without an answer, all datagrams under way are given up

// datagramLoad keeps some datagrams of each visitor under way, and counts those that come back as they were sent.
func datagramLoad(address string, visitors, size, window, count int, duration time.Duration) error {
	var workers sync.WaitGroup
	var sent, back atomic.Int64
	failures := make(chan error, visitors)
	start := time.Now()
	for range visitors {
		workers.Add(1)
		go func() {
			defer workers.Done()
			if err := exchangeDatagrams(address, size, window, count, start.Add(duration), &sent, &back); err != nil {
				failures <- err
			}
		}()
	}
	workers.Wait()
	took := time.Since(start).Seconds()
	select {
	case err := <-failures:
		return err
	default:
	}
	say(map[string]any{"count": back.Load(), "lost": sent.Load() - back.Load(), "seconds": took})
	return nil
}

func exchangeDatagrams(address string, size, window, count int, end time.Time, sent, back *atomic.Int64) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	piece, answer, underWay := make([]byte, size), make([]byte, largest), map[uint64]bool{}
	for number, done := uint64(0), 0; count == 0 && time.Now().Before(end) || done < count; {
		for len(underWay) < window {
			number++
			binary.BigEndian.PutUint64(piece, number)
			if _, err := conn.Write(piece); err != nil {
				return err
			}
			underWay[number] = true
			sent.Add(1)
		}
		if err := conn.SetReadDeadline(time.Now().Add(lostAfter)); err != nil {
			return err
		}
		got, err := conn.Read(answer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if count > 0 {
				return errors.New("no datagram came back")
			}
			clear(underWay)
			continue
		}
		if err != nil {
			return err
		}
		if got != size || !bytes.Equal(answer[8:got], piece[8:]) {
			return errDiffers
		}
		if which := binary.BigEndian.Uint64(answer); underWay[which] {
			delete(underWay, which)
			back.Add(1)
			done++
		}
	}
	sent.Add(-int64(len(underWay))) // their answers are not awaited any more
	return nil
}
