"""A customer's bill: checked at IMT before anyone clicks, and shown when someone does."""
