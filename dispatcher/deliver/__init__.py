"""The sending side of channels: one module per transport behind the seam in ``sink``."""
