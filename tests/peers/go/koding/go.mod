module tunnelstack.test/peers/koding

go 1.23

require (
	github.com/cenkalti/backoff v2.2.1+incompatible
	github.com/gorilla/websocket v1.5.3
	github.com/koding/tunnel v0.0.0-20170601195443-35a8b95662bf
)

require (
	github.com/hashicorp/yamux v0.1.2 // indirect
	github.com/koding/logging v0.0.0-20160720134017-8b5a689ed69b // indirect
)
