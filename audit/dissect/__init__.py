"""Looking inside a model: hooks, sparse autoencoder, group heads, attribution, lens."""
