"""What operators do, free of Typer and HTTP."""
