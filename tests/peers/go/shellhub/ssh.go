package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const password = "secret"

// ssh256 is the SHA-256 of a public key, PKCS#1.
func ssh256(key *rsa.PublicKey) string {
	digest := sha256.Sum256(x509.MarshalPKCS1PublicKey(key))
	return hex.EncodeToString(digest[:])
}

// sshServer takes any user with the password, and runs what is asked for in a shell.
type sshServer struct {
	config *ssh.ServerConfig
	mutex  sync.Mutex
	failed []string
}

func newSSHServer() (*sshServer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	config := &ssh.ServerConfig{
		PasswordCallback: func(_ ssh.ConnMetadata, said []byte) (*ssh.Permissions, error) {
			if string(said) != password {
				return nil, errors.New("wrong password")
			}
			return nil, nil
		},
	}
	config.AddHostKey(signer)
	return &sshServer{config: config}, nil
}

func (s *sshServer) errors() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]string{}, s.failed...)
}

func (s *sshServer) note(err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err != nil && len(s.failed) < 1000 {
		s.failed = append(s.failed, err.Error())
	}
}

func (s *sshServer) serve(conn net.Conn) {
	defer conn.Close()
	server, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		s.note(err)
		return
	}
	go ssh.DiscardRequests(requests)
	for asked := range channels {
		if asked.ChannelType() != "session" {
			_ = asked.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := asked.Accept()
		if err != nil {
			s.note(err)
			return
		}
		go session(channel, requests)
	}
	s.note(server.Wait())
}

func session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for request := range requests {
		var asked struct{ Command string }
		if request.Type != "exec" || ssh.Unmarshal(request.Payload, &asked) != nil {
			_ = request.Reply(false, nil)
			continue
		}
		_ = request.Reply(true, nil)
		status := run(channel, asked.Command)
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
		return
	}
}

func run(channel ssh.Channel, line string) uint32 {
	shell := exec.Command("/bin/sh", "-c", line)
	input, err := shell.StdinPipe()
	if err != nil {
		return 255
	}
	shell.Stdout, shell.Stderr = channel, channel.Stderr()
	if shell.Start() != nil {
		return 255
	}
	go func() {
		_, _ = io.Copy(input, channel)
		input.Close()
	}()
	var exit *exec.ExitError
	if err := shell.Wait(); errors.As(err, &exit) {
		return uint32(exit.ExitCode())
	}
	return 0
}

type logging struct {
	waiting
	Conn     int    `json:"conn"`
	User     string `json:"user"`
	Password string `json:"password"`
	Command  string `json:"command"`
	Input    []byte `json:"input"` // base64
}

// runSSH logs in on a connection, as the server's front end does with a user's password, and runs one command.
func runSSH(p *peer, how logging) (reply, error) {
	conn, err := p.conn(how.Conn)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(how.duration()))
	link, channels, requests, err := ssh.NewClientConn(conn, "device", &ssh.ClientConfig{
		User:            how.User,
		Auth:            []ssh.AuthMethod{ssh.Password(how.Password)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		return nil, err
	}
	client := ssh.NewClient(link, channels, requests)
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	defer session.Close()
	session.Stdin = bytes.NewReader(how.Input)
	status := 0
	output, err := session.CombinedOutput(how.Command)
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		status, err = exit.ExitStatus(), nil
	}
	_ = conn.SetDeadline(time.Time{})
	return reply{"data": output, "status": status, "version": string(link.ServerVersion())}, err
}
