"""
How each command line of the documentation is tested: the table of C{tests/system/test_documented_commands.py}.

A command line is what follows the prompt C{$} or C{#}, without a comment and with its continuation lines.
"""

from __future__ import annotations

from attrs import define

ROOT, MACHINE, PROGRAM, INDEX = "root", "another machine", "another program", "a package index"


@define(frozen=True)
class Ends:
    """
    The command is run to its end, which must be with exit code 0.

    @ivar prints: a pattern of its output.
    @ivar before: what is done first, as a shell script.
    """

    command: str
    prints: str = ""
    before: str = ""


@define(frozen=True)
class Answers:
    """
    The command is run again and again until it ends with exit code 0: it needs a program that was started just before.

    @ivar prints: a pattern of its output.
    """

    command: str
    prints: str = ""


@define(frozen=True)
class Stays:
    """
    The command is run until the end of the scene.

    @ivar prints: the pattern of a line, for which the scene waits.  If it is empty, a later line shows that the program works.
    @ivar before: what is done first, as a shell script.
    @ivar ends: the command of an earlier line, whose program is ended first, as the page tells its reader.
    """

    command: str
    prints: str = ""
    before: str = ""
    ends: str = ""


@define(frozen=True)
class Lasts:
    """
    The command changes the shell, and so all later commands of the scene.
    """

    command: str


@define(frozen=True)
class NotRun:
    """
    The command needs what a test does not have.  Those parts of it that are commands of ours are parsed.

    @ivar needs: what that is.
    @ivar ours: the part that is a command of ours, if the line does not begin with it.
    """

    command: str
    needs: str
    ours: str = ""


Line = Ends | Answers | Stays | Lasts | NotRun


@define(frozen=True)
class Scene:
    """
    Command lines that follow each other, with one empty home.

    @ivar before: what is done first, as a shell script.
    @ivar edge: the configuration of an edge that runs meanwhile, if there is one.
    @ivar served: whether a web server listens on the port C{{other}} meanwhile.
    @ivar replaced: parts of command lines, each with what a test uses instead: C{{port}}, C{{other}} and C{{third}} are free
        ports, and C{{home}} is the home.
    """

    page: str
    lines: tuple[Line, ...]
    before: str = ""
    edge: str | None = None
    served: bool = False
    replaced: tuple[tuple[str, str], ...] = ((":8080", ":{port}"), (" 3000", " {other}"))


SITE = "echo '<p>hello' > index.html"
AUTHORITY = "tunnelstack certs ca; tunnelstack certs server godoxy.agent; tunnelstack certs client edge --archive {name}; "
EXAMPLES = "cp $ROOT/docs/examples/*.py ."
PUBLIC = "--edge https://tunnels.example.net"
UP = r"^session +up "
READY = r"edge +ready "

AGENT_OF_GODOXY = """cat > agent.toml <<END
[[godoxy]]
port = {other}
ca_file = "certs/ca.pem"
certificate_file = "certs/server-godoxy.agent.pem"
key_file = "certs/server-godoxy.agent.key"
targets = ["127.0.0.1:3000", "192.168.1.1:53"]
END
"""

EDGE_WITH_DASHBOARD = """cat > edge.toml <<END
[edge]
listen = ["tcp:{port}"]
[admin]
listen = "{other}"
token_file = "{home}/admin.token"
END
"""

EDGE_OF_GODOXY = """cat > edge.toml <<END
[godoxy]
[[godoxy.agent]]
name = "nas"
address = "127.0.0.1:{other}"
archive = "nas.zip"
[[godoxy.service]]
name = "wiki"
agent = "nas"
target = "127.0.0.1:3000"
END
"""

LOGS = """for role in edge agent; do cat > $role.log <<END
{"time": "2027-01-15T08:00:00.000+00:00", "level": "info", "logger": "tunnelstack.access", "role": "$role", \
"request": "3f9c0a1b2c-1d4", "method": "GET", "host": "shop.tunnels.example.net", "target": "/cart", "protocol": "HTTP/1.1", \
"status": 200, "octets": 12, "seconds": 0.050000, "first": 0.040000, "service": "shop"}
END
done
mv edge.log access.log; mv agent.log agent-access.log
"""

SCENES = (
    Scene("README.md", (
        Stays("tunnel-edge --dev", READY),
        Stays("tunnel-agent --dev http 3000 --name myapp", UP),
        Answers("curl http://myapp.localhost:8080/", "GET /"),
        Stays("twistd -n --pidfile= web --path . --listen tunnel:site"),
        Answers("curl http://site.localhost:8080/", "hello"),
    ), before=SITE, served=True),
    Scene("docs/howto/agent-as-a-service.md", (
        Ends("tunnelstack token new laptop --allow 'http:laptop-*' --out laptop.token",
             r"(?s)created token \w+ of agent laptop, and stored its hash in .*tokens.toml; the token is in laptop.token\n"
             r"the running edge accepts it"),
    ), edge=""),
    Scene("docs/howto/benchmarks.md", (
        NotRun("make bench", PROGRAM),
    )),
    Scene("docs/howto/dial-godoxy-agents.md", (
        Ends("tunnelstack check edge.toml"),
        Stays("tunnel-edge --config edge.toml", READY),
        Ends("tunnelstack agents", "nas"),
        Ends("tunnelstack godoxy", "wiki"),
    ), before=AUTHORITY.format(name="nas.zip") + EDGE_OF_GODOXY),
    Scene("docs/howto/dial-godoxy-agents.md", (
        Ends("tunnelstack certs ca"),
        Ends("tunnelstack certs server godoxy.agent"),
        Ends("tunnelstack certs client edge --archive nas.zip"),
        Lasts("umask 077"),
        Ends(
            """{ printf 'AGENT_CA_CERT=%s;%s\\n' "$(base64 -w0 certs/ca.pem)" "$(base64 -w0 certs/ca.key)"\n"""
            """printf 'AGENT_SSL_CERT=%s;%s\\n' "$(base64 -w0 certs/server-godoxy.agent.pem)" """
            """"$(base64 -w0 certs/server-godoxy.agent.key)"\n} > agent.env"""
        ),
        Ends("tunnelstack godoxy add nas nas.example.net:8890 --archive nas.zip"),
        Ends("tunnelstack godoxy publish wiki nas http 127.0.0.1:3000"),
        Ends("tunnelstack godoxy publish dns nas udp 192.168.1.1:53 --port 5353"),
        Ends("tunnelstack check agent.toml", before=AGENT_OF_GODOXY),
        Stays("tunnel-agent --config agent.toml start", r"listen +listening at \*:\d+"),
    ), edge="[godoxy]\n", replaced=(("nas.example.net", "127.0.0.1"), ("--port 5353", "--port {port}"))),
    Scene("docs/howto/frameworks.md", (
        NotRun("jupyter lab --no-browser --ServerApp.allow_remote_access=True", PROGRAM),
        NotRun(f"tunnel-agent {PUBLIC} http 8888 --name app", MACHINE),
        NotRun("jupyter lab --no-browser", PROGRAM),
        NotRun(f"tunnel-agent {PUBLIC} http 8888 --rewrite-host localhost:8888 --rewrite-origin --name app", MACHINE),
    )),
    Scene("docs/howto/get-certificates.md", (
        NotRun("certbot certonly --dns-rfc2136 --dns-rfc2136-credentials /etc/letsencrypt/rfc2136.ini "
               "-d tunnels.example.net -d '*.tunnels.example.net'", PROGRAM),
        NotRun("groupadd --system tunnelstack", ROOT),
        NotRun("install -d -m 0750 -g tunnelstack /etc/tunnelstack/certificates", ROOT),
        NotRun("cat > /etc/letsencrypt/renewal-hooks/deploy/tunnelstack <<'END'", ROOT),
        NotRun("chmod +x /etc/letsencrypt/renewal-hooks/deploy/tunnelstack", ROOT),
        NotRun("RENEWED_LINEAGE=/etc/letsencrypt/live/tunnels.example.net "
               "/etc/letsencrypt/renewal-hooks/deploy/tunnelstack", ROOT),
        NotRun("lego --accept-tos --email you@example.net --dns rfc2136 --path /var/lib/lego "
               "--domains tunnels.example.net --domains '*.tunnels.example.net' run", PROGRAM),
        NotRun("lego ... renew --renew-hook 'cp /var/lib/lego/certificates/tunnels.example.net.key "
               "/etc/tunnelstack/certificates/tunnels.key &&\n"
               "cp /var/lib/lego/certificates/tunnels.example.net.crt /etc/tunnelstack/certificates/tunnels.pem'", PROGRAM),
    )),
    Scene("docs/howto/grpc.md", (
        NotRun(f"tunnel-agent {PUBLIC} http 50051 --http2 --name calls", MACHINE),
    )),
    Scene("docs/howto/inspect-requests.md", (
        Stays("tunnel-agent --dev http 3000 --name app --inspect", r"^app +http://app\.localhost:\d+ -> tcp:localhost:\d+",
              before="printf '[inspect]\\nlisten = \"tcp:{third}:interface=127.0.0.1\"\\n' > agent.toml"),
        Ends("tunnelstack requests", "(?s)ID +TIME +SERVICE +METHOD +STATUS +DURATION +SENT +TARGET.*app +GET +200",
             before="curl -s http://app.localhost:{port}/a.json"),
        Ends("tunnelstack replay 1", r"request 2 replays request 1: 200, \d+ B in "),
        Ends("curl http://127.0.0.1:4747/api/requests/1/curl", "(?s)curl .*--request GET"),
        Ends("curl --output requests.har http://127.0.0.1:4747/api/har"),
    ), edge="", served=True, replaced=(
        ("--inspect", "--inspect --config agent.toml"), (" 3000", " {other}"), (":4747", ":{third}"),
        ("tunnelstack requests", "tunnelstack requests --inspector http://127.0.0.1:{third}"),
        ("replay", "replay --inspector http://127.0.0.1:{third}"),
    )),
    Scene("docs/howto/install.md", (
        NotRun("pipx install tunnelstack", INDEX),
        NotRun("python3 -m venv venv", INDEX),
        NotRun("venv/bin/pip install 'tunnelstack[uvloop]'", INDEX),
        NotRun("podman build --file packaging/container/Containerfile --tag tunnelstack .", PROGRAM),
        NotRun("podman run --publish 8080:8080 --volume ./edge.toml:/etc/tunnelstack/edge.toml:ro "
               "--volume state:/var/lib/tunnelstack tunnelstack", PROGRAM),
        NotRun(f"podman run --env TUNNELSTACK_EDGE={PUBLIC.removeprefix('--edge ')} --secret tunnelstack-token "
               "--env TUNNELSTACK_TOKEN_FILE=/run/secrets/tunnelstack-token tunnelstack "
               "tunnel-agent http web:3000 --name myapp", PROGRAM, ours=f"tunnel-agent http web:3000 --name myapp {PUBLIC}"),
    )),
    Scene("docs/howto/publish-a-server.md", (
        Stays("twistd -n --pidfile= web --path . --listen tunnel:site"),
        Stays("twistd -n --pidfile= conch --data keys --port tunnel:shell:kind=stream",
              before="mkdir keys; ssh-keygen -q -t ed25519 -N '' -f keys/ssh_host_ed25519_key"),
        Answers("tunnelstack connect shell", "SSH-2.0-"),
    ), edge=""),
    Scene("docs/howto/reach-devices.md", (
        NotRun(f"tunnel-agent {PUBLIC} ssh --name laptop", MACHINE),
        NotRun(f"tunnel-agent {PUBLIC} ssh --name laptop --authorized-keys ~/.ssh/authorized_keys", MACHINE),
        NotRun('ssh -o ProxyCommand="tunnelstack connect %h --purpose ssh" me@laptop', MACHINE,
               ours="tunnelstack connect %h --purpose ssh"),
        Ends("tunnelstack devices", "DEVICE +STATUS +CONNECTED +IDENTITY +ABOUT"),
        NotRun("tunnelstack devices accept lab.bench", MACHINE),
        NotRun("ssh alice@lab.bench@tunnels.example.net -p 2222", MACHINE),
        NotRun("ssh me@laptop@tunnels.example.net -p 2222", MACHINE),
        NotRun("ssh -J guest@tunnels.example.net:2222 alice@lab.bench", MACHINE),
    ), edge='[shellhub]\npolicy = "pending"\n[[tenant]]\nid = "00000000-0000-4000-0000-000000000000"\nnamespace = "lab"\n'),
    Scene("docs/howto/run-an-edge.md", (
        Stays("tunnel-edge --listen tcp:8080 --domain tunnels.example.net", READY),
        Stays("tunnel-edge --listen tls:/etc/tunnelstack/certs:port=443 --domain tunnels.example.net", READY,
              before="tunnelstack certs ca; tunnelstack certs server tunnels.example.net; "
                     "mv certs/server-tunnels.example.net.pem certs/default.pem; "
                     "mv certs/server-tunnels.example.net.key certs/default.key"),
    ), replaced=(("tcp:8080", "tcp:{port}"), ("/etc/tunnelstack", "{home}"), ("port=443", "port={other}"))),
    Scene("docs/howto/run-an-edge.md", (
        NotRun(f"TUNNELSTACK_TOKEN=... tunnel-agent {PUBLIC} http 3000 --name myapp", MACHINE),
        Ends("tunnelstack token new laptop --allow 'http:laptop-*' --allow tcp:20000-20010 --out laptop.token"),
        Ends("tunnelstack token list", "laptop"),
        Ends("tunnelstack token revoke laptop", "revoked"),
        NotRun("tunnelstack check /etc/tunnelstack/edge.toml && kill -HUP $(pidof -x tunnel-edge)", MACHINE),
        Ends("tunnelstack status", READY),
        Ends("tunnelstack agents", "AGENT"),
        Ends("tunnelstack routes --json | jq -r '.routes[].public'", "www.example.net"),
        Ends("tunnelstack samples", "no requests"),
        Ends("curl --unix-socket ~/.local/state/tunnelstack/admin.sock http://edge/status", '"state"'),
    ), edge='[[route]]\nhost = "www.example.net"\nto = "site"\n'),
    Scene("docs/howto/trace-requests.md", (
        Ends("tunnelstack trace 3f9c0a1b2c-1d4 /var/log/tunnelstack/access.log agent-access.log",
             r"(?s)request 3f9c0a1b2c-1d4.*\nedge +200 .*\nagent +200 "),
    ), before=LOGS, replaced=(("/var/log/tunnelstack/", "{home}/"),)),
    Scene("docs/howto/use-dtls.md", (
        Ends("tunnelstack certs ca"),
        Ends("tunnelstack certs server localhost"),
        Ends("tunnelstack certs client me"),
        Ends("python datagrams.py", r"b'is anybody there\?'"),
    ), before=EXAMPLES),
    Scene("docs/howto/use-http2.md", (
        Ends("python http2.py", r"200 HELLO \[\(b'shouted-octets', b'5'\)\]\n200 WORLD \[\(b'shouted-octets', b'5'\)\]"),
    ), before=EXAMPLES),
    Scene("docs/howto/use-the-dashboard.md", (
        Stays("tunnel-edge --dev --dashboard 9000", r"^dashboard +http://127\.0\.0\.1:\d+/"),
    ), replaced=(("--dev", "--dev --port {port}"), ("9000", "{other}"))),
    Scene("docs/howto/use-the-dashboard.md", (
        Ends("(umask 077; openssl rand -hex 24 > /etc/tunnelstack/admin.token)"),
        Stays("tunnel-edge --config /etc/tunnelstack/edge.toml", READY, before=EDGE_WITH_DASHBOARD),
        NotRun("ssh -N -L 9000:127.0.0.1:9000 edge.example.net", MACHINE),
        Ends("""curl -H "Authorization: Bearer $(cat admin.token)" -d '{"session": 3}' http://localhost:9000/agents/drain""",
             "there is no session 3"),
    ), replaced=(("/etc/tunnelstack", "{home}"), ("localhost:9000", "127.0.0.1:{other}"))),
    Scene("docs/howto/write-a-handler.md", (
        NotRun("tunnelstack connect laptop --purpose /demo/shout/1.0.0", MACHINE),
    )),
    Scene("docs/protocols/agentserver.md", (
        Ends("tunnelstack sandbox add second", r"sandbox_id +sbx-\w+\ntunnel_token +\w+"),
        Ends("tunnelstack sandbox", "SANDBOX +ID +CONNECTED +HOST +AGENT"),
        Ends("tunnelstack sandbox revoke second"),
    ), edge="[agentserver]\n"),
    Scene("docs/protocols/godoxy.md", (
        Ends("tunnelstack certs ca"),
        Ends("tunnelstack certs server godoxy.agent"),
        Ends("tunnelstack certs client edge --archive edge.zip"),
        Stays("tunnel-agent --config agent.toml start", r"listen +listening at \*:\d+", before=AGENT_OF_GODOXY),
        Ends("""printf %s "$AGENT_CA_CERT" | cut -d';' -f1 | base64 -d > ca.pem"""),
        Ends("""printf %s "$AGENT_SSL_CERT" | cut -d';' -f1 | base64 -d > agent.pem"""),
        Ends("""printf %s "$AGENT_SSL_CERT" | cut -d';' -f2 | base64 -d > agent.key"""),
        Ends("tunnelstack godoxy add shed shed.example.net:8890 --archive shed.zip", before="cp edge.zip shed.zip"),
        Ends("tunnelstack godoxy publish game shed tcp 127.0.0.1:25565 --port 25565"),
        Ends("tunnelstack godoxy",
             r"(?s)AGENT +ADDRESS +STATE +VERSION +TCP +UDP +FROM.*SERVICE +AGENT +PUBLIC +TARGET +HEALTH +FROM"),
        Ends("tunnelstack godoxy withdraw game"),
        Ends("tunnelstack godoxy remove shed"),
    ), edge="[godoxy]\n", replaced=(("shed.example.net", "127.0.0.1"), ("--port 25565", "--port {port}"))),
    Scene("docs/protocols/jetty.md", (
        Ends("tunnelstack token new laptop --allow 'http:*' --out laptop.token"),
        Ends("tunnelstack jetty add shop --owner laptop", r"shop is reserved for laptop: http://shop\.localhost"),
        Ends("tunnelstack jetty", "TUNNEL +OWNER +TARGET +AGENTS +URL +ID"),
        Ends("tunnelstack jetty remove shop", "is removed"),
    ), edge="[jetty]\n"),
    Scene("docs/protocols/koding-tunnel.md", (
        Ends("tunnelstack koding add new.example.net", r"^[\w-]{32}\n"),
        Ends("tunnelstack koding add www.new.example.net --identifier-file new.identifier",
             before="printf 0123456789abcdef0123456789abcdef > new.identifier; chmod 600 new.identifier"),
        Ends("tunnelstack koding open 2222 new.example.net"),
        Ends("tunnelstack koding", "PUBLIC +CLIENT +CONNECTED +FROM"),
        Ends("tunnelstack koding revoke new.example.net"),
    ), edge="[koding]\n"),
    Scene("docs/topics/certificates.md", (
        Ends("tunnelstack certs ca", r"wrote certs/ca\.pem and certs/ca\.key"),
        Ends("tunnelstack certs server edge.internal 10.0.0.7",
             r"wrote certs/server-edge\.internal\.pem and certs/server-edge\.internal\.key"),
        Ends("tunnelstack certs client laptop --archive laptop.zip",
             r"wrote certs/client-laptop\.pem and certs/client-laptop\.key\nwrote laptop\.zip, which contains a private key"),
    )),
    Scene("docs/topics/reactors.md", (
        Stays("twistd --reactor busypoll -n --pidfile= web --path . --listen tunnel:site", "Site starting|starting up"),
    ), edge=""),
    Scene("docs/tutorial/add-a-dialect.md", (
        Lasts("export PYTHONPATH=docs/examples"),
        Ends("(umask 077; tunnelstack token new desk --allow http:desk > desk.token)"),
        Stays("tunnel-edge --dev --config edge.toml", READY),
        Stays("tunnel-agent --config agent.toml start", UP + " *edge=localhost:[0-9]+ dialect=porter rtt="),
        Answers("curl http://desk.localhost:8080/", "GET /"),
        Stays("tunnel-agent porter 3000 --edge http://localhost:8080 --token-file desk.token",
              UP + " *edge=localhost:[0-9]+ dialect=porter rtt=", ends="tunnel-agent --config agent.toml start"),
    ), served=True, before="""mkdir docs; ln -s $ROOT/docs/examples docs/examples
echo '[porter]' > edge.toml
cat > agent.toml <<END
[[porter]]
url = "http://localhost:{port}"
token_file = "desk.token"
target = "{other}"
END
"""),
    Scene("docs/tutorial/first-tunnel.md", (
        Stays("tunnel-edge --dev", READY),
        Stays("python3 -m http.server 3000 --bind 127.0.0.1"),
        Stays("tunnel-agent --dev http 3000 --name myapp", r"^myapp +http://myapp\.localhost:\d+ -> tcp:localhost:\d+"),
        Answers("curl http://myapp.localhost:8080/", "hello"),
        Stays("twistd -n --pidfile= web --path . --listen tunnel:myapp", "Site starting|starting up"),
    ), before=SITE),
)  # fmt: skip

MARKED = 31
"""How many command lines are not run.  Whoever changes the number gives the reason in the change."""
