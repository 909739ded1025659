"""How billbus is started: on one machine, in containers, on Kubernetes."""
