"""
The commands C{tunnelstack requests} and C{tunnelstack replay}, which use the inspector of a running agent.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from http.client import HTTPException
from time import monotonic, sleep
from typing import Any

from twisted.python import usage

from tunnelstack.commands.admin_client import asJSON, formatOctets, formatTable
from tunnelstack.commands.http_address import connectionTo
from tunnelstack.control.config.sources import readToken
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED, FatalError
from tunnelstack.wire.printable_text import LINE, printable, quoted

HELP = """
Usage: tunnelstack requests [--json]
       tunnelstack replay ID [--json]

List the last requests of an agent that was started with --inspect, or send one of them to its local server again.

  tunnelstack requests
        the requests, the newest first, with their numbers
  tunnelstack replay 7
        sends request 7 again, and shows the status of the response

Options                 Environment            Default
  -j, --json                                   text                    print one JSON object
      --inspector URL   TUNNELSTACK_INSPECTOR  http://127.0.0.1:4747   the inspector of the agent
      --token-file FILE                                                a file with the token of the inspector, if it needs one
      --version, --help

Exit codes: 0 answered, 64 usage, 69 no inspector answers, or it rejects the request.
"""

DEFAULT = "http://127.0.0.1:4747"

TIMEOUT_SECONDS = 10.0
"""The time for one answer, in seconds."""

REPLAY_SECONDS = 120.0
"""The time for the response to a replay, in seconds."""

POLL_SECONDS = 0.05

Answer = dict[str, Any]


class InspectorNotReachable(FatalError):
    """
    No inspector answers at the address.
    """

    code = 69


class InspectorRefused(FatalError):
    """
    The inspector rejected the request.
    """

    code = 69


class Options(BaseOptions):
    """
    The command line.

    @ivar request: the number of the request to replay.
    """

    helpText = HELP
    optFlags = [["json", "j", "print one JSON object"]]
    optParameters = [
        ["inspector", None, None, "the URL of the inspector"],
        ["token-file", None, None, "a file with the token of the inspector"],
    ]
    request = 0

    def parseArgs(self, *arguments: str) -> None:
        """
        Read the number of a request.
        """
        if self.command == "replay":
            if len(arguments) != 1 or not (arguments[0].isascii() and arguments[0].isdigit() and len(arguments[0]) < 19):
                raise usage.UsageError("replay takes the number of one request, as tunnelstack requests lists it")
            self.request = int(arguments[0])
        elif arguments:
            raise usage.UsageError(f"{self.command} takes options only, not {quoted(arguments[0])}")


class InspectorClient:
    """
    Sends requests to an inspector.
    """

    def __init__(self, url: str, token: str = "") -> None:
        """
        @param token: C{""} if none is needed.
        @raise UsageError: the URL is not one.
        """
        self._url = url
        wrong = usage.UsageError(f"--inspector must be a URL such as {DEFAULT}, not {quoted(url)}")
        try:
            self._connection = connectionTo(url, TIMEOUT_SECONDS)
        except ValueError:
            raise wrong from None
        self._fields = {"X-Tunnelstack": "1", **({"Authorization": f"Bearer {token}"} if token else {})}

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """
        @return: the answer, decoded from JSON.
        @raise InspectorNotReachable: no inspector answers.
        @raise InspectorRefused: it rejects the request.
        """
        connection = self._connection             # which opens anew after it was closed
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._fields)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException, ValueError) as error:
            reason = printable(str(getattr(error, "strerror", None) or error), LINE)
            raise InspectorNotReachable(
                f"no inspector answers at {self._url}: {reason}; start the agent with --inspect"
            ) from None
        finally:
            connection.close()
        if response.status != 200 or not isinstance(answer, dict):
            sentence = answer.get("error", response.status) if isinstance(answer, dict) else response.status
            raise InspectorRefused(printable(str(sentence), LINE))
        return answer


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    client = makeClient(options)
    if options.command == "replay":
        answer = replay(client, options.request)
        sys.stdout.write(asJSON(answer) if options["json"] else replayText(answer))
    else:
        answer = client.ask("GET", "/api/requests")
        sys.stdout.write(asJSON(answer) if options["json"] else requestsText(answer))
    return STOPPED


def makeClient(options: Options, environ: Mapping[str, str] = os.environ) -> InspectorClient:
    """
    @return: a client of the inspector that the options or the environment name.
    @raise ConfigurationError: the token file cannot be used.
    """
    token = readToken(options["token-file"]) if options["token-file"] else ""
    return InspectorClient(options["inspector"] or environ.get("TUNNELSTACK_INSPECTOR") or DEFAULT, token)


def replay(client: InspectorClient, request: int) -> Answer:
    """
    Replay a request, and wait for the response.

    @return: the new request.
    """
    made = client.ask("POST", f"/api/requests/{request}/replay", {})["id"]
    end = monotonic() + REPLAY_SECONDS
    while True:
        detail = client.ask("GET", f"/api/requests/{int(made)}")
        if detail["state"] != "open" or monotonic() > end:
            return detail
        sleep(POLL_SECONDS)


def requestsText(answer: Answer) -> str:
    """
    @return: the requests as a table.
    """
    rows = [_row(each) for each in answer["requests"]]
    if not rows:
        return "no requests yet\n"
    return formatTable(("ID", "TIME", "SERVICE", "METHOD", "STATUS", "DURATION", "SENT", "TARGET"), rows)


def _row(request: Answer) -> Sequence[object]:
    replayed = f"  (replay of {request['replayOf']})" if request["replayOf"] is not None else ""
    began = datetime.fromtimestamp(request["began"]).strftime("%H:%M:%S")
    return (
        request["id"], began, request["service"], request["method"], _status(request), _duration(request["seconds"]),
        formatOctets(request["sent"]), f"{request['host']}{request['target']}{replayed}",
    )


def _status(request: Answer) -> str:
    return f"{request['status'] or '-'}{'' if request['state'] == 'ended' else ' ' + str(request['state'])}"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def replayText(request: Answer) -> str:
    """
    @return: the result of a replay.
    """
    why = f"  {request['failure']}" if request["failure"] else ""
    line = (
        f"request {request['id']} replays request {request['replayOf']}: {_status(request)}, {formatOctets(request['sent'])} "
        f"in {_duration(request['seconds'])}{why}"
    )
    return printable(line, LINE) + "\n"
