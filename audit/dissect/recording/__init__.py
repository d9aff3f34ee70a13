"""What a dissection samples, on disk: trajectories, their maps, and the stream that the autoencoder is trained from.

It may import the lower modules of ``dissect``, and what ``dissect`` may import.
"""
