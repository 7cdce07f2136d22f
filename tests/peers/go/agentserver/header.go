package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

const (
	streamHTTP     = 0x01
	streamTerminal = 0x02
	streamControl  = 0x03

	metadataLimit = 1 << 20
)

type requestMetadata struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	BodyLen int               `json:"body_len"`
}

type responseMetadata struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
}

// writeHeader writes the header and the metadata separately, as genuine programs do.
func writeHeader(w io.Writer, kind byte, metadata any) error {
	var encoded []byte
	if metadata != nil {
		var err error
		if encoded, err = json.Marshal(metadata); err != nil {
			return err
		}
	}
	header := make([]byte, 5)
	header[0] = kind
	binary.BigEndian.PutUint32(header[1:], uint32(len(encoded)))
	if _, err := w.Write(header); err != nil {
		return err
	}
	if len(encoded) == 0 {
		return nil
	}
	_, err := w.Write(encoded)
	return err
}

func readHeader(r io.Reader) (byte, []byte, error) {
	header := make([]byte, 5)
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(header[1:])
	if length > metadataLimit {
		return 0, nil, fmt.Errorf("stream metadata too large: %d bytes", length)
	}
	metadata := make([]byte, length)
	_, err := io.ReadFull(r, metadata)
	return header[0], metadata, err
}
