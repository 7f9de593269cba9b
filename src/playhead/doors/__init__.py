"""Where bytes leave: responses and blobs, handed to servers, files and mounts."""
