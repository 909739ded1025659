"""The `billbus` command: thin over services.operations and services.bus."""
