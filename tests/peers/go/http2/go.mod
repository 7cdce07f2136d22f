module tunnelstack.test/peers/http2

go 1.24
