"""What blobs and trees pass through on their way from an origin to a door."""
