"""The front door: command line, configs, run folders. The only package that opens folders for results."""

__version__ = "0.1.0"
