"""Photos on their way in: find them (listing), decode them (decode), choose the network's size (network_size)."""
