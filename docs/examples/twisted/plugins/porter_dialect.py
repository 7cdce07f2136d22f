"""
The plugin of the example dialect "porter".
"""

from tunnelstack.settings.dialects import DialectPackage

porter = DialectPackage("porter", "porter")
