package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tunnelstack.test/peers/godoxy/protocol"
)

const (
	api   = "/godoxy/agent"
	proxy = api + "/proxy/http"
)

type proxyConfig struct {
	NoTLSVerify           bool          `json:"no_tls_verify"`
	ResponseHeaderTimeout time.Duration `json:"response_header_timeout"`
	ServerName            string        `json:"ssl_server_name"`
}

func (a *agent) handler() http.Handler {
	mux := http.NewServeMux()
	s := a.settings
	plain := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
	}
	if s.Old {
		mux.HandleFunc(api+"/name", plain(s.Name))
		mux.HandleFunc(api+"/version", plain(s.Version))
		if s.Runtime != "" {
			mux.HandleFunc(api+"/runtime", plain(s.Runtime))
		}
	} else {
		mux.HandleFunc(api+"/info", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if s.Info != "" {
				fmt.Fprint(w, s.Info)
				return
			}
			fmt.Fprintf(w, "{\"version\":%q,\"name\":%q,\"runtime\":%q}\n", s.Version, s.Name, s.Runtime)
		})
	}
	mux.HandleFunc("GET "+api+"/health", a.health)
	forward := http.HandlerFunc(a.forward)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, proxy+"/") { // before the mux cleans the path
			forward(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (a *agent) health(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	scheme, host := query.Get("scheme"), query.Get("host")
	if scheme == "" {
		http.Error(w, "missing scheme", http.StatusBadRequest)
		return
	}
	milliseconds, err := strconv.Atoi(query.Get("timeout"))
	if err != nil || milliseconds == 0 {
		milliseconds = 5000
	}
	timeout := time.Duration(milliseconds) * time.Millisecond
	began := time.Now()
	healthy, detail := true, ""
	switch scheme {
	case "http", "https", "h2c":
		client := &http.Client{Timeout: timeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		response, err := client.Head(strings.Replace(scheme, "h2c", "http", 1) + "://" + host + query.Get("path"))
		if err != nil {
			healthy, detail = false, err.Error()
		} else {
			healthy = response.StatusCode < 500
			response.Body.Close()
		}
	case "tcp", "udp":
		conn, err := net.DialTimeout(scheme, host, timeout)
		if err != nil {
			healthy, detail = false, err.Error()
		} else {
			conn.Close()
		}
	default:
		healthy, detail = false, "unsupported scheme"
	}
	json.NewEncoder(w).Encode(map[string]any{"healthy": healthy, "detail": detail, "latency": time.Since(began).Nanoseconds()})
}

// target reads the fields that name the web server, in both forms.
func target(fields http.Header) (*url.URL, *proxyConfig, error) {
	config := &proxyConfig{ResponseHeaderTimeout: 60 * time.Second}
	scheme, encoded := fields.Get("X-Proxy-Scheme"), fields.Get("X-Proxy-Config")
	if scheme == "" && encoded == "" {
		scheme = "http"
		if https, _ := strconv.ParseBool(fields.Get("X-Proxy-Https")); https {
			scheme = "https"
		}
		config.NoTLSVerify, _ = strconv.ParseBool(fields.Get("X-Proxy-Skip-Tls-Verify"))
		return &url.URL{Scheme: scheme, Host: fields.Get("X-Proxy-Host")}, config, nil
	}
	octets, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal(octets, config); err != nil {
		return nil, nil, err
	}
	host := fields.Get("X-Proxy-Host")
	if host == "" || (scheme != "http" && scheme != "https" && scheme != "h2c") {
		return nil, nil, fmt.Errorf("host %q or scheme %q", host, scheme)
	}
	return &url.URL{Scheme: scheme, Host: host}, config, nil
}

func (a *agent) forward(w http.ResponseWriter, r *http.Request) {
	to, config, err := target(r.Header)
	if err != nil {
		http.Error(w, "failed to parse agent proxy config: "+err.Error(), http.StatusBadRequest)
		return
	}
	form := "modern"
	if r.Header.Get("X-Proxy-Config") == "" {
		form = "legacy"
	}
	a.note("http: %s %s %s%s", form, to, r.Host, strings.TrimPrefix(r.RequestURI, proxy))
	transport := &http.Transport{
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: config.NoTLSVerify, ServerName: config.ServerName},
		ResponseHeaderTimeout: config.ResponseHeaderTimeout,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return (&net.Dialer{Timeout: protocol.DialTimeout}).DialContext(ctx, network, address)
		},
		DisableKeepAlives: true,
	}
	(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(to)
			p.Out.URL.Path = strings.TrimPrefix(p.In.URL.Path, proxy)
			p.Out.URL.RawPath = strings.TrimPrefix(p.In.URL.RawPath, proxy)
			p.Out.Host = p.In.Host
			p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
			p.SetXForwarded()
		},
		ModifyResponse: func(response *http.Response) error {
			response.Header.Del("Server")
			response.Header.Del("X-Powered-By")
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			a.note("http: %v", err)
			http.Error(w, "Origin server is not reachable.", http.StatusBadGateway)
		},
	}).ServeHTTP(w, r)
}
