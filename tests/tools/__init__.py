"""The developers' tools do what they say."""
