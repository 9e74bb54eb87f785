"""One module a command: its arguments as a frozen dataclass `Args`, its work in `main(args) -> int`."""
