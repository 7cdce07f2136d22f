package protocol

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"github.com/pion/dtls/v3"
)

const (
	// ALPN is the name of the protocol of streams.
	ALPN = "godoxy-agent-stream/1"
	// ServerName is what the certificate of every agent is for.
	ServerName = "godoxy.agent"
	// DialTimeout is for a connection and its handshake, and for the destination of a stream.
	DialTimeout = 10 * time.Second
	// HeaderTimeout is for the block to arrive.
	HeaderTimeout = 10 * time.Second
)

// Certificates are those of one side, in PEM: its own, its key, and the authority of the other side's.
type Certificates struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	Authority   string `json:"authority"`
}

// Load parses them.  Without a certificate of its own, a side has none.
func (c Certificates) Load() ([]tls.Certificate, *x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.Authority)) {
		return nil, nil, errors.New("no certificate in the authority")
	}
	if c.Certificate == "" {
		return nil, pool, nil
	}
	pair, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Key))
	return []tls.Certificate{pair}, pool, err
}

// TLSClient is how the main program connects.
func (c Certificates) TLSClient(name string, alpn []string) (*tls.Config, error) {
	own, pool, err := c.Load()
	return &tls.Config{
		Certificates: own, RootCAs: pool, ServerName: name, NextProtos: alpn, MinVersion: tls.VersionTLS12,
	}, err
}

// TLSServer is how an agent listens.
func (c Certificates) TLSServer() (*tls.Config, error) {
	own, pool, err := c.Load()
	return &tls.Config{
		Certificates: own, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1", ALPN},
	}, err
}

// DTLSClient is how the main program connects by UDP.
func (c Certificates) DTLSClient(name string) (*dtls.Config, error) {
	own, pool, err := c.Load()
	return &dtls.Config{
		Certificates: own, RootCAs: pool, InsecureSkipVerify: false, ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
		ServerName: name, CipherSuites: []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}, err
}

// DTLSServer is how an agent listens on UDP.
func (c Certificates) DTLSServer() (*dtls.Config, error) {
	own, pool, err := c.Load()
	return &dtls.Config{
		Certificates: own, ClientCAs: pool, ClientAuth: dtls.RequireAndVerifyClientCert,
		ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
		CipherSuites:         []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}, err
}
