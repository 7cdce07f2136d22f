module tunnelstack.test/agentserver

go 1.23

require (
	github.com/coder/websocket v1.8.14
	github.com/hashicorp/yamux v0.1.2
	nhooyr.io/websocket v1.8.17
)
