"""
The one user that an embedded SSH server works for: the agent's own, whatever names people log in with.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from attrs import Factory, frozen

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@frozen(kw_only=True)
class LocalUser:
    """
    Where and how programs run.

    @ivar name: the user of the machine.
    @ivar home: his folder, where relative paths of file transfers begin.
    @ivar shell: what runs commands.
    @ivar environment: what a program finds; nothing of the agent's own but its language.
    """

    name: str
    home: str
    shell: str
    environment: Mapping[str, str] = Factory(dict)

    @property
    def folder(self) -> str:
        """
        Where programs start: home, or the root where there is none.
        """
        return self.home if os.path.isdir(self.home) else "/"


def ownUser(shell: str = "", home: str = "") -> LocalUser:
    """
    The user this process runs as.

    @param shell: instead of the user's own.
    @param home: instead of the user's own.
    """
    try:
        entry = pwd.getpwuid(os.getuid())
        name, folder, usual = entry.pw_name, entry.pw_dir, entry.pw_shell
    except KeyError:                          # a container's user without an entry
        name, folder, usual = str(os.getuid()), os.environ.get("HOME", "/"), ""
    home, shell = home or folder, shell or usual or "/bin/sh"
    environment = {
        "HOME": home, "LOGNAME": name, "PATH": os.environ.get("PATH", PATH), "SHELL": shell, "USER": name,
        "SSH_CONNECTION": "UNKNOWN 65535 UNKNOWN 65535",   # as sshd has it where there are no addresses
    }
    environment.update({key: value for key, value in os.environ.items() if key == "LANG" or key.startswith("LC_")})
    return LocalUser(name=name, home=home, shell=shell, environment=environment)
