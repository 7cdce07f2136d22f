// Package protocol is what the two programs of GoDoxy send each other on streams, by the description of their wire: the block
// of 275 octets with the destination, and the settings of TLS and DTLS.
package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// HeaderSize is how many octets the block has.
	HeaderSize = 275
	// CloseImmediately is the flag of a probe.
	CloseImmediately = 0x01

	hostAt, hostSize = 8, 255
	portAt, portSize = 264, 5
	flagsAt          = 270
	checksumAt       = 271
)

var version = [8]byte{'0', '.', '1', '.', '0'}

// ErrInvalidHeader is returned for a block with another version, a port that is longer than its field, or a wrong checksum.
var ErrInvalidHeader = errors.New("invalid header")

// Header is where a stream goes.
type Header struct {
	Host  string
	Port  string
	Flags byte
}

// Marshal makes the block.
func (h Header) Marshal() ([]byte, error) {
	if len(h.Host) > hostSize {
		return nil, fmt.Errorf("host of %d octets", len(h.Host))
	}
	if len(h.Port) > portSize {
		return nil, fmt.Errorf("port of %d octets", len(h.Port))
	}
	block := make([]byte, HeaderSize)
	copy(block, version[:])
	block[hostAt] = byte(len(h.Host))
	copy(block[hostAt+1:], h.Host)
	block[portAt] = byte(len(h.Port))
	copy(block[portAt+1:], h.Port)
	block[flagsAt] = h.Flags
	Sign(block)
	return block, nil
}

// Sign puts the checksum of a block into it.
func Sign(block []byte) {
	binary.BigEndian.PutUint32(block[checksumAt:], crc32.ChecksumIEEE(block[:checksumAt]))
}

// Unmarshal reads a block.
func Unmarshal(block []byte) (Header, error) {
	if len(block) != HeaderSize || [8]byte(block[:8]) != version || block[portAt] > portSize {
		return Header{}, ErrInvalidHeader
	}
	if binary.BigEndian.Uint32(block[checksumAt:]) != crc32.ChecksumIEEE(block[:checksumAt]) {
		return Header{}, ErrInvalidHeader
	}
	host, port := block[hostAt+1:], block[portAt+1:]
	return Header{string(host[:block[hostAt]]), string(port[:block[portAt]]), block[flagsAt]}, nil
}

// IsProbe reports whether a stream only tests that streams work.
func (h Header) IsProbe() bool {
	return h.Flags&CloseImmediately != 0
}
