"""
Rules for the SSH keys that an edge vouches for: C{"KEY USER@DEVICE"}, three globs.

Without a rule that covers a key, a user and a device, the edge does not vouch for the key.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from tunnelstack.control.auth.permissions import matches
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.record import Record
from tunnelstack.wire.printable_text import quoted


@frozen(eq=False, repr=False)
class VouchRule(Record):
    """
    One rule.

    @ivar key: glob of a key's comment or fingerprint (C{SHA256:...}, as C{ssh-keygen -l} prints it).
    @ivar user: glob of a user's name on devices.
    @ivar device: glob of a device's name on the edge, C{namespace.device}.
    """

    key: str
    user: str
    device: str

    def covers(self, names: Iterable[str], user: str, device: str) -> bool:
        """
        @param names: a key's comments and its fingerprint.
        """
        return matches(self.user, user) and matches(self.device, device) and any(matches(self.key, name) for name in names)


def parseVouchRule(text: str) -> VouchRule:
    """
    @param text: C{"alice@desk root@lab.*"}, or C{"deploy@lab.*"} for every key.
    @raise ConfigurationError: it has neither form.
    """
    words = text.split()
    user, at, device = words[-1].rpartition("@") if words else ("", "", "")
    if len(words) > 2 or not (user and at and device):
        raise ConfigurationError(
            f"must be USER@DEVICE, or KEY USER@DEVICE, such as 'deploy@lab.*' or 'alice@desk *@lab.bench', not {quoted(text)}"
        )
    return VouchRule(words[0] if len(words) == 2 else "*", user, device)
