"""
A server and a client of datagrams over DTLS, with the files that C{tunnelstack certs} makes::

    tunnelstack certs ca
    tunnelstack certs server localhost
    tunnelstack certs client me
    python datagrams.py
"""

import sys

from twisted.internet import defer, task

from tunnelstack.errors import TunnelError
from tunnelstack.transport.dtls.strings import clientFromString, serverFromString

SERVER = "dtls:0:certificate=certs/server-localhost.pem:privateKey=certs/server-localhost.key:clientCA=certs/ca.pem"
CLIENT = "dtls:localhost:{port}:certificate=certs/client-me.pem:privateKey=certs/client-me.key:trustRoots=certs/ca.pem"


class Echo:
    def makeConnection(self, transport):
        self.transport = transport

    def datagramReceived(self, datagram):
        self.transport.write(datagram)

    def connectionLost(self, reason):
        print("the server's end is closed:", reason.getErrorMessage(), file=sys.stderr)


class Question:
    def __init__(self):
        self.answer = defer.Deferred()

    def makeConnection(self, transport):
        self.transport = transport
        transport.write(b"is anybody there?")

    def datagramReceived(self, datagram):
        self.answer.callback(datagram)

    def connectionLost(self, reason):
        pass


class Factory:
    def __init__(self, protocol):
        self.protocol = protocol

    def buildProtocol(self, address):
        return self.protocol()


async def talk(reactor):
    port = await serverFromString(reactor, SERVER).listen(Factory(Echo))
    client = clientFromString(reactor, CLIENT.format(port=port.getHost().port))
    question = await client.connect(Factory(Question))
    print(await question.answer)
    question.transport.loseConnection()
    await port.stopListening()


async def main(reactor):
    try:
        await talk(reactor)
    except TunnelError as error:                # such as a certificate that does not exist
        sys.exit(str(error))


task.react(main)
