package main

import (
	"fmt"
	"io"

	multistream "github.com/multiformats/go-multistream"
)

type proposing struct {
	ofStream
	How       string   `json:"how"` // "fail" (SelectProtoOrFail), "one-of" (SelectOneOf) or "lazy" (NewMSSelect)
	Protocols []string `json:"protocols"`
}

// negotiate proposes. After "lazy" nothing has been sent: the stream's number now means the lazy one.
func negotiate(p *peer, how proposing) (reply, error) {
	stream, err := p.stream(how.Stream)
	if err != nil {
		return nil, err
	}
	switch how.How {
	case "fail":
		return reply{"protocol": how.Protocols[0]}, multistream.SelectProtoOrFail(how.Protocols[0], stream)
	case "one-of":
		protocol, err := multistream.SelectOneOf(how.Protocols, stream)
		return reply{"protocol": protocol}, err
	case "lazy":
		lazy := multistream.NewMSSelect(stream, how.Protocols[0])
		p.mutex.Lock()
		p.streams[how.Stream] = lazy
		p.mutex.Unlock()
		return reply{"protocol": how.Protocols[0]}, nil
	}
	return nil, fmt.Errorf("there is no way %q to negotiate", how.How)
}

type responding struct {
	ofStream
	Protocols []string `json:"protocols"`
}

// respond answers proposals until one is known; the stream stays the caller's.
func respond(p *peer, how responding) (reply, error) {
	stream, err := p.stream(how.Stream)
	if err != nil {
		return nil, err
	}
	mux := multistream.NewMultistreamMuxer[string]()
	for _, protocol := range how.Protocols {
		mux.AddHandler(protocol, func(string, io.ReadWriteCloser) error { return nil })
	}
	protocol, _, err := mux.Negotiate(stream)
	return reply{"protocol": protocol}, err
}
