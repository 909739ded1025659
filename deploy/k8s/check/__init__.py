"""Whether a cluster would take deploy/k8s: a real API server is asked, and must refuse what is planted."""
