"""
The subcommand of the example dialect "porter": tunnel-agent porter TARGET.
"""

from twisted.python.usage import UsageError
from zope.interface import implementer

from porter.settings import AgentSettings
from tunnelstack.interfaces import IAgentCommand

HELP = """
Usage: tunnel-agent porter TARGET --edge URL --token-file FILE

Publish a web server through an edge that supports porter, under the name of the token.

  tunnel-agent porter 3000 --edge https://tunnels.example.net --token-file desk.token
        the web server on port 3000 of this machine

Options                        Environment               Default
  -e, --edge URL               TUNNELSTACK_EDGE                       http(s)://host[:port]
      --token-file FILE        TUNNELSTACK_TOKEN_FILE                 a file with the token
"""


@implementer(IAgentCommand)
class Porter:
    name = "porter"
    usage = "porter TARGET"
    summary = "a web server, through an edge that supports porter"
    helpText = HELP
    optFlags = ()
    optParameters = [["edge", "e", None, "URL of the edge"], ["token-file", None, None, "a file with the token"]]

    def parse(self, options, arguments):
        url, tokenFile = options["edge"], options["token-file"]
        if len(arguments) != 1 or not url or not tokenFile:
            raise UsageError("porter takes one target, --edge URL and --token-file FILE")
        return {"porter": (AgentSettings(url=url, tokenFile=tokenFile, target=arguments[0]),)}


COMMANDS = [Porter()]
