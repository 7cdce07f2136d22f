"""
The user as which an embedded SSH server runs programs: the agent's own, for every login name.
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
    The account in which programs run.

    @ivar name: the user name on this machine.
    @ivar home: the home folder, to which relative paths of file transfers refer.
    @ivar shell: the program that runs commands.
    @ivar environment: the environment of programs.  It contains nothing of the agent's own environment but the locale, because
        that may contain secrets.
    """

    name: str
    home: str
    shell: str
    environment: Mapping[str, str] = Factory(dict)

    @property
    def folder(self) -> str:
        """
        The working folder of programs: the home folder, or C{/} if it does not exist.
        """
        return self.home if os.path.isdir(self.home) else "/"


def ownUser(shell: str = "", home: str = "") -> LocalUser:
    """
    The user as which this process runs.

    @param shell: replaces the user's own shell.
    @param home: replaces the user's own home folder.
    """
    try:
        entry = pwd.getpwuid(os.getuid())
        name, folder, usual = entry.pw_name, entry.pw_dir, entry.pw_shell
    except KeyError:                          # a container's user without an entry
        name, folder, usual = str(os.getuid()), os.environ.get("HOME", "/"), ""
    home, shell = home or folder, shell or usual or "/bin/sh"
    environment = {
        "HOME": home, "LOGNAME": name, "PATH": os.environ.get("PATH", PATH), "SHELL": shell, "USER": name,
        "SSH_CONNECTION": "UNKNOWN 65535 UNKNOWN 65535",   # as sshd sets it without addresses
    }
    environment.update({key: value for key, value in os.environ.items() if key == "LANG" or key.startswith("LC_")})
    return LocalUser(name=name, home=home, shell=shell, environment=environment)
