"""Messages of the tracking API: strict bytes to typed messages, and the keyed tags that make a retry harmless."""
