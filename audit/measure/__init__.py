"""From images to numbers: perceived groups, embeddings, pure metrics, statistics."""
