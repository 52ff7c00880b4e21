"""The channels' queues, behind one seam: ``interface``, filled in by ``native`` and ``memory``."""
