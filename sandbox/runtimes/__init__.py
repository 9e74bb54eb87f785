"""Ways to make boxes: Docker, rootless namespaces, and a fake for tests; picked by name."""
