"""Reading photos: find them (listing), decode them (decode), choose the network's input size (network_size)."""
