module tunnelstack.test/benchmarks

go 1.24

require (
	github.com/gorilla/websocket v1.5.3
	github.com/hashicorp/yamux v0.1.2
	github.com/multiformats/go-multistream v0.6.1
)

require github.com/multiformats/go-varint v0.0.6 // indirect
