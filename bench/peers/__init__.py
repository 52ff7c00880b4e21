"""Other programs that do the same work, measured in the same rounds by the same load."""
