// Program peer is an agent as GoDoxy's is, on crypto/tls and pion/dtls with its settings, driven by a test.
package main

import (
	"tunnelstack.test/peers/godoxy/driver"
	"tunnelstack.test/peers/godoxy/protocol"
)

// settings is what a test asks of an agent.
type settings struct {
	protocol.Certificates
	CAPair      string `json:"ca_pair"` // instead of the certificates: the value of AGENT_CA_CERT
	Pair        string `json:"pair"`    // and of AGENT_SSL_CERT
	Port        int    `json:"port"`    // 0 for any
	Name        string `json:"name"`
	Version     string `json:"version"`
	Runtime     string `json:"runtime"`
	NoUDP       bool   `json:"no_udp"`       // there is no DTLS
	NoStreams   bool   `json:"no_streams"`   // the ALPN of streams is not known
	NoALPN      bool   `json:"no_alpn"`      // ALPN is ignored altogether, and everything is HTTP
	Old         bool   `json:"old"`          // as before /info
	Info        string `json:"info"`         // what /info answers instead
	LoseHeaders int    `json:"lose_headers"` // so many headers over DTLS are taken as lost
}

// which agent a command is for.
type which struct {
	Agent int `json:"agent"`
}

func main() {
	agents := &driver.Table[*agent]{}
	driver.Main(driver.Commands{
		"start": driver.Command(func(s *settings) (driver.Reply, error) {
			started, err := start(s)
			if err != nil {
				return nil, err
			}
			return driver.Reply{"agent": agents.Keep(started), "port": started.port}, nil
		}),
		"stop": driver.Command(func(w *which) (driver.Reply, error) {
			found, err := agents.Find(w.Agent)
			if err == nil {
				found.stop()
			}
			return nil, err
		}),
		"events": driver.Command(func(w *which) (driver.Reply, error) {
			found, err := agents.Find(w.Agent)
			if err != nil {
				return nil, err
			}
			return driver.Reply{"events": found.seen()}, nil
		}),
	})
}
