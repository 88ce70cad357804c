"""What can be said about the pages without running them."""
