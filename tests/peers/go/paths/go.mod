module tunnelstack.test/peers/paths

go 1.23
