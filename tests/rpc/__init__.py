"""What both sides of a call share: certificates, channels, and who may be trusted."""
