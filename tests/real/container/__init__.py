"""The container image, made and run without a container engine; and its linter, and Compose."""
