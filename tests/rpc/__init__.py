"""What both sides of a call share: what is read, certificates, channels, and who may be trusted."""
