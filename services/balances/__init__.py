"""What an account owes: asked of IMT, kept, and told to whoever asks."""
