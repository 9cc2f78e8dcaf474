"""spacesfs mounts a DigitalOcean Space as an ordinary directory."""

from importlib.metadata import version

__version__ = version("spacesfs")
