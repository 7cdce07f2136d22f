package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cnf/structhash"
	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"
	"github.com/shellhub-io/shellhub/pkg/models"
	"github.com/shellhub-io/shellhub/pkg/revdial"
	"github.com/shellhub-io/shellhub/pkg/wsconnadapter"
)

var upgrader = websocket.Upgrader{
	ReadBufferSize:  1024,
	WriteBufferSize: 1024,
	Subprotocols:    []string{"binary"},
	CheckOrigin:     func(*http.Request) bool { return true },
}

// behaviour is what a test may turn while the server runs; what is left out of a "set" stays as it is.
type behaviour struct {
	Status  *int           `json:"status"`   // answers upgrades with it; 0 accepts them
	Auth    *int           `json:"auth"`     // answers authentications with it; 0 accepts them
	Config  map[string]any `json:"config"`   // for the answer to an authentication
	Ping    *float64       `json:"ping"`     // seconds between pings of version 2
	Pong    *float64       `json:"pong"`     // seconds for their answers
	Zombies *bool          `json:"zombies"`  // a missed pong leaves the socket open, as the genuine server does
	DropLF  *bool          `json:"drop_lf"`  // what is read behind a proxy's answer is lost, as up to 0.26; else it is replayed
	Device  *string        `json:"accepted"` // the status in the answer to an authentication
}

// binding is one connection of a device.
type binding struct {
	version int
	dialer  *revdial.Dialer // of version 1
	session *yamux.Session  // of version 2
}

func (b *binding) close() {
	if b.session != nil {
		b.session.Close()
	} else {
		b.dialer.Close()
	}
}

type event struct {
	What    string `json:"what"` // "bound", "beat", "unbound", "offline", "authenticated" or "connected"
	UID     string `json:"uid"`
	Version int    `json:"version,omitempty"`
	Agent   string `json:"agent,omitempty"` // the User-Agent
}

type known struct {
	uid, tenant, name string
}

// server keeps devices by their keys, newest connection last.
type server struct {
	mutex   sync.Mutex
	how     behaviour
	bound   map[string][]*binding
	tokens  map[string]known
	events  []event
	key     *rsa.PrivateKey
	address string
	pickUps atomic.Int64 // requests of connections that devices made for dials of version 1
}

func (s *server) note(e event) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.events) < 100_000 {
		s.events = append(s.events, e)
	}
}

func (s *server) settings() behaviour {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.how
}

// add keeps the newest, and closes the others in the background.
func (s *server) add(key string, fresh *binding) {
	s.mutex.Lock()
	older := s.bound[key]
	s.bound[key] = append(append([]*binding{}, older...), fresh)
	s.mutex.Unlock()
	for _, old := range older {
		go old.close()
	}
}

// remove tells whether the last one went.
func (s *server) remove(key string, gone *binding) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	kept := []*binding{}
	for _, b := range s.bound[key] {
		if b != gone {
			kept = append(kept, b)
		}
	}
	if len(kept) == 0 {
		delete(s.bound, key)
		return true
	}
	s.bound[key] = kept
	return false
}

func (s *server) newest(key string) (*binding, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if all := s.bound[key]; len(all) > 0 {
		return all[len(all)-1], nil
	}
	return nil, errNoConnection
}

func (s *server) left(key, uid string, b *binding) {
	s.note(event{What: "unbound", UID: uid, Version: b.version})
	if s.remove(key, b) {
		s.note(event{What: "offline", UID: uid})
	}
}

func (s *server) bindV1(key, uid string, adapter *wsconnadapter.Adapter) {
	b := &binding{version: 1, dialer: revdial.NewDialer(adapter.Logger, adapter, "/ssh/revdial")}
	s.add(key, b)
	s.note(event{What: "bound", UID: uid, Version: 1})
	pongs := adapter.Ping()
	for {
		select {
		case <-pongs:
			s.note(event{What: "beat", UID: uid})
		case <-b.dialer.Done():
			s.left(key, uid, b)
			return
		}
	}
}

func (s *server) bindV2(key, uid string, adapter *wsconnadapter.Adapter) error {
	how := s.settings()
	config := &yamux.Config{
		AcceptBacklog:          256,
		EnableKeepAlive:        false,
		KeepAliveInterval:      35 * time.Second,
		ConnectionWriteTimeout: seconds(*how.Pong),
		MaxStreamWindowSize:    256 << 10,
		StreamCloseTimeout:     5 * time.Minute,
		StreamOpenTimeout:      75 * time.Second,
		LogOutput:              os.Stderr,
	}
	session, err := yamux.Client(adapter, config)
	if err != nil {
		return err
	}
	b := &binding{version: 2, session: session}
	s.add(key, b)
	s.note(event{What: "bound", UID: uid, Version: 2})
	defer s.left(key, uid, b)
	for {
		select {
		case <-time.After(seconds(*how.Ping)):
			if _, err := session.Ping(); err != nil {
				if !*how.Zombies {
					session.Close()
				}
				return nil
			}
			s.note(event{What: "beat", UID: uid})
		case <-session.CloseChan():
			return nil
		}
	}
}

// connection takes an agent of either version.
func (s *server) connection(version int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mutex.Lock()
		device, ok := s.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		status := *s.how.Status
		s.mutex.Unlock()
		if !ok {
			status = http.StatusUnauthorized
		}
		if status != 0 {
			w.WriteHeader(status)
			return
		}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		s.note(event{What: "connected", UID: device.uid, Version: version, Agent: r.UserAgent()})
		adapter := wsconnadapter.New(conn, wsconnadapter.WithID("connection"), wsconnadapter.WithDevice(device.tenant, device.uid))
		key := device.tenant + ":" + device.uid
		if version == 1 {
			go s.bindV1(key, device.uid, adapter)
		} else {
			go s.bindV2(key, device.uid, adapter)
		}
	}
}

// digested has the members of a device that its digest is made of.
type digested struct {
	Identity  *models.DeviceIdentity
	PublicKey string
	TenantID  string
}

func (s *server) authenticate(w http.ResponseWriter, r *http.Request) {
	how := s.settings()
	var asked models.DeviceAuthRequest
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err == nil {
		err = json.Unmarshal(body, &asked)
	}
	if err != nil || asked.DeviceAuth == nil || asked.Info == nil || *how.Auth != 0 {
		status := http.StatusBadRequest
		if *how.Auth != 0 {
			status = *how.Auth
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"message":"refused"}` + "\n"))
		return
	}
	digest := sha256.Sum256(structhash.Dump(digested{asked.Identity, asked.PublicKey, asked.TenantID}, 1))
	uid := hex.EncodeToString(digest[:])
	secret := make([]byte, 16)
	_, _ = rand.Read(secret)
	name := asked.Hostname
	if name == "" {
		name = strings.ReplaceAll(asked.Identity.MAC, ":", "-")
	}
	device := known{uid: uid, tenant: asked.TenantID, name: name}
	token := hex.EncodeToString(secret)
	s.mutex.Lock()
	s.tokens[token] = device
	s.mutex.Unlock()
	s.note(event{What: "authenticated", UID: uid, Agent: r.UserAgent()})
	said := reply{"uid": uid, "token": token, "name": name, "namespace": "dev"}
	if *how.Device != "" {
		said["status"] = *how.Device
	}
	if len(how.Config) > 0 {
		said["config"] = how.Config
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(said)
}

func (s *server) vouch(w http.ResponseWriter, r *http.Request) {
	var asked models.PublicKeyAuthRequest
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	digest := sha256.Sum256([]byte(asked.Data))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, digest[:])
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	answer := models.PublicKeyAuthResponse{Signature: base64.StdEncoding.EncodeToString(signature)}
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *server) info(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(models.Info{Version: "v0.26.0", Endpoints: models.Endpoints{API: s.address, SSH: s.address}})
}

// serve listens on the loopback.
func serve(p *peer, how behaviour) (reply, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{bound: map[string][]*binding{}, tokens: map[string]known{}, key: key, address: port.Addr().String()}
	none, ping, pong, no, status := 0, 35.0, 15.0, false, "accepted"
	s.how = behaviour{Status: &none, Auth: &none, Ping: &ping, Pong: &pong, Zombies: &no, DropLF: &no, Device: &status}
	s.change(how)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info", s.info)
	mux.HandleFunc("POST /api/devices/auth", s.authenticate)
	mux.HandleFunc("POST /api/auth/ssh", s.vouch)
	mux.HandleFunc("GET /ssh/connection", s.connection(1))
	mux.HandleFunc("GET /agent/connection", s.connection(2))
	genuine := revdial.ConnHandler(upgrader)
	mux.HandleFunc("/ssh/revdial", func(w http.ResponseWriter, r *http.Request) {
		s.pickUps.Add(1)
		genuine.ServeHTTP(w, r)
	})
	go func() { _ = http.Serve(port, mux) }()
	p.mutex.Lock()
	p.server = s
	p.mutex.Unlock()
	return reply{"port": port.Addr().(*net.TCPAddr).Port, "public": ssh256(&key.PublicKey)}, nil
}

func (s *server) change(how behaviour) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	take(&s.how.Status, how.Status)
	take(&s.how.Auth, how.Auth)
	take(&s.how.Ping, how.Ping)
	take(&s.how.Pong, how.Pong)
	take(&s.how.Zombies, how.Zombies)
	take(&s.how.DropLF, how.DropLF)
	take(&s.how.Device, how.Device)
	if how.Config != nil {
		s.how.Config = how.Config
	}
}

func take[V any](into **V, value *V) {
	if value != nil {
		*into = value
	}
}

func (p *peer) hosting() (*server, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.server == nil {
		return nil, errNoServer
	}
	return p.server, nil
}

type setting struct {
	behaviour
	Revoke bool `json:"revoke"` // forgets all tokens
}

func set(p *peer, how setting) (reply, error) {
	s, err := p.hosting()
	if err != nil {
		return nil, err
	}
	s.change(how.behaviour)
	if how.Revoke {
		s.mutex.Lock()
		s.tokens = map[string]known{}
		s.mutex.Unlock()
	}
	return nil, nil
}

type device struct {
	waiting
	Tenant string `json:"tenant"`
	UID    string `json:"uid"`
}

func (d device) key() string {
	return d.Tenant + ":" + d.UID
}

func (s *server) versions() map[string][]int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	all := map[string][]int{}
	for key, bindings := range s.bound {
		for _, b := range bindings {
			all[key] = append(all[key], b.version)
		}
	}
	return all
}

// devices gives the versions of the connections of each, oldest first.
func devices(p *peer, _ struct{}) (reply, error) {
	s, err := p.hosting()
	if err != nil {
		return nil, err
	}
	return reply{"devices": s.versions()}, nil
}

type awaiting struct {
	device
	Count   int `json:"count"`   // connections of it; 0 waits until it is gone
	Version int `json:"version"` // that the newest of them speaks; 0 is any
}

func awaitDevice(p *peer, how awaiting) (reply, error) {
	s, err := p.hosting()
	if err != nil {
		return nil, err
	}
	var found []int
	err = how.until(func() bool {
		found = s.versions()[how.key()]
		return len(found) == how.Count && (how.Version == 0 || found[how.Count-1] == how.Version)
	})
	return reply{"versions": found}, err
}

// events gives all that happened to devices, oldest first.
func events(p *peer, _ struct{}) (reply, error) {
	s, err := p.hosting()
	if err != nil {
		return nil, err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return reply{"events": append([]event{}, s.events...)}, nil
}

type happening struct {
	device
	What  string `json:"what"`
	Count int    `json:"count"` // how often, in all
}

func awaitEvent(p *peer, how happening) (reply, error) {
	s, err := p.hosting()
	if err != nil {
		return nil, err
	}
	count := 0
	err = how.until(func() bool {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		count = 0
		for _, e := range s.events {
			if e.What == how.What && e.UID == how.UID {
				count++
			}
		}
		return count >= how.Count
	})
	return reply{"count": count}, err
}

// kick closes all connections of a device.
func kick(p *peer, how device) (reply, error) {
	s, err := p.hosting()
	if err != nil {
		return nil, err
	}
	s.mutex.Lock()
	bound := append([]*binding{}, s.bound[how.key()]...)
	s.mutex.Unlock()
	for _, b := range bound {
		go b.close()
	}
	return reply{"count": len(bound)}, nil
}

// dialV1 dials, and again if a pick-up came and was lost: the genuine dialler makes the place of a pick-up after it has requested
// it, and one that comes in between finds none.  A pick-up that does not come is waited for as long as the caller waits.
func (s *server) dialV1(ctx context.Context, dialer *revdial.Dialer) (net.Conn, error) {
	for {
		attempt, stop := context.WithCancel(ctx)
		go s.stopIfLost(attempt, stop, s.pickUps.Load())
		conn, err := dialer.Dial(attempt)
		again := err != nil && attempt.Err() != nil && ctx.Err() == nil
		stop()
		if !again {
			return conn, err
		}
	}
}

// stopIfLost ends an attempt that still waits when a pick-up came long enough ago.
func (s *server) stopIfLost(attempt context.Context, stop context.CancelFunc, before int64) {
	for s.pickUps.Load() == before && attempt.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	select {
	case <-attempt.Done():
	case <-time.After(3 * time.Second):
		stop()
	}
}

// open gives a bare connection to a device.
func (s *server) open(ctx context.Context, key string) (net.Conn, int, error) {
	b, err := s.newest(key)
	if err != nil {
		return nil, 0, err
	}
	if b.dialer != nil {
		conn, err := s.dialV1(ctx, b.dialer)
		return conn, 1, err
	}
	type opened struct {
		conn net.Conn
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		conn, err := b.session.Open()
		done <- opened{conn, err}
	}()
	select {
	case o := <-done:
		return o.conn, 2, o.err
	case <-ctx.Done():
		go func() {
			if o := <-done; o.err == nil {
				o.conn.Close()
			}
		}()
		return nil, 0, ctx.Err()
	}
}
