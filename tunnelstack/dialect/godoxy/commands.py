"""
The subcommands of GoDoxy.
"""

from __future__ import annotations

from tunnelstack.dialect.godoxy.agent_command import AgentCommand
from tunnelstack.dialect.godoxy.edge_commands import EDGE_COMMANDS

COMMANDS = (*EDGE_COMMANDS, AgentCommand())
