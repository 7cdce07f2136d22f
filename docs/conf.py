"""
How Sphinx reads these pages.  The API pages beside them are pydoctor's (C{apidoc.py}).
"""

from tunnelstack.version import VERSION as release

project = "tunnelstack"
author = "The tunnelstack maintainers"
copyright = "2026, the tunnelstack maintainers"
version = release

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
root_doc = "contents"        # index.md is a list of links, which is of use outside the built pages as well
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "examples"]
nitpicky = True

html_theme = "alabaster"
html_theme_options = {"description": "Tunnels for Twisted", "page_width": "1080px", "fixed_sidebar": True}
html_show_sourcelink = False
