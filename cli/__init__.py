"""The front door: command line, configs, run folders. The only package that opens folders for results."""
