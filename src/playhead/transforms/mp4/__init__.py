"""MP4 parts -> one MP4: begin with `film`."""
