"""Settings: what changes at IC (autopay, paperless, account links) becomes so at IMT."""
