"""What exists: accounts, applications, keys, channels, subscriptions, behind one seam."""
