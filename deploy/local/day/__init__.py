"""The demo's business day: its BIF files, what IC and IMT's people do, and the judge who adds it all up."""
