"""The task image: its recipe, the Docker image, the root file system for boxes without Docker, the manifest."""
