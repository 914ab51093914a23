"""The pages in a real browser: on a real cluster, or on made-up answers where that takes long."""
