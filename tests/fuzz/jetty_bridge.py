"""
Bent octets for the bodies of the API of Jetty's control plane, in both roles.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from tunnelstack.wire.jsonline import encode
from tunnelstack.wire.records import jetty_bridge as records
from tunnelstack.wire.records.jetty_bridge import BadBody, Tunnel, tunnel_members

TUNNEL = Tunnel(id="01J8ZC4T5Q6R7S8T9V0WXYZABC", subdomain="demo", websocket_url="wss://a/agent", agent_token="t")

SEEDS = [
    b'{"local_host":"127.0.0.1","local_port":"3000","subdomain":"demo","server":null,"expires_in":5,"protocol":"udp"}',
    b'{"local_host":"a","local_port":1,"routing_rules":[{"match_type":"header","header_name":"x","header_value":"y","local_host":"a","local_port":1}]}',
    b'{"local_host":"a","local_port":1,"routing_rules":[{"path_prefix":"/a","local_host":"a","local_port":1,"enabled":false}]}',
    b'{"local_host":"a","local_port":1,"routing_rules":[{"match_type":"geo_match","countries":["CH"],"local_host":"a","local_port":1}]}',
    b'{"requests":1,"bytes_in":2,"bytes_out":3}', b"", b"[]", b"null", b'{"data":[]}',
    b'{"method":"GET","path":"/","query":null,"status":200,"latency_ms":5,"headers":{"A":"b","C":["d","e"]},"bytes_in":1}',
    b'{"http_status":502,"reason":"x","client":"y","tunnel_id":"a","agent_token":"b","edge_id":"c"}',
    b'{"edges":[{"url":"wss://a/agent","region":"eu","location":null}],"message":"no","hint":"pay"}',
    encode({"data": tunnel_members(TUNNEL)}), encode({"data": [tunnel_members(TUNNEL)]}),
]  # fmt: skip

READERS: tuple[Callable[[bytes], object], ...] = (
    records.read_create_untrusted, records.read_attach_untrusted, records.read_heartbeat_untrusted,
    records.read_sample_untrusted, records.read_log_untrusted, records.read_failure_untrusted, records.read_verify_untrusted,
    records.read_tunnel_untrusted, records.read_tunnels_untrusted, records.read_regions_untrusted,
)  # fmt: skip


def target(data: bytes) -> Hashable:
    """
    @return: what each reader made of it.
    """
    return (*(read(reader, data) for reader in READERS), bool(records.read_error_untrusted(data)))


def read(reader: Callable[[bytes], object], data: bytes) -> Hashable:
    """
    The name of the record, or the member that is wrong.
    """
    try:
        return type(reader(data)).__name__
    except BadBody as bad:
        return bad.member
